import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../project.js';
import {
  isAlive,
  killProcessNow,
  type SpawnedProcess,
  spawnProcess,
  stopProcess,
  until,
  untilReady,
} from '../servers/process.js';
import { findPrograms, missingPrograms, type Program } from './programs.js';

export interface ClusterOptions {
  /** Data, certificates and logs. Exists. */
  readonly folder: string;
  readonly port: (standard: number) => Promise<number>;
  readonly signal: AbortSignal;
  /** Called right after each start of a process. */
  readonly spawned?: (child: SpawnedProcess) => void;
  /** File for the requests of service accounts, one `audit.k8s.io/v1` Event in JSON a line; undefined: none. */
  readonly auditLog?: string;
  /** Nodes that kwok plays. 0: no scheduler and no kwok, so that a test decides the state of each pod. */
  readonly nodes: number;
}

export type Component = Exclude<Program, 'kubectl'>;

const START_TIMEOUT_MS = 60_000;
const STANDARD_PORTS = { client: 23790, peer: 23800, api: 26443 };

const AUDIT_POLICY = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [{ level: 'Metadata', userGroups: ['system:serviceaccounts'] }, { level: 'None' }],
};

/**
 * A Kubernetes cluster on loopback for development and tests: real etcd, API server, controller-manager and scheduler;
 * kwok plays the nodes, so pods become ready without a container.
 */
export class LocalCluster {
  private readonly running = new Map<Component, SpawnedProcess>();
  readonly adminToken = randomBytes(16).toString('hex');
  private readonly programs: Readonly<Record<Program, string>>;
  private ports: typeof STANDARD_PORTS | undefined;

  /** @throws Error that says how to get the programs */
  constructor(private readonly options: ClusterOptions) {
    const programs = findPrograms();
    if (!programs) throw new Error(missingPrograms());
    this.programs = programs;
  }

  /** https://127.0.0.1:<port> */
  get url(): string {
    return `https://127.0.0.1:${this.portsOf().api}`;
  }

  get kubectl(): string {
    return this.programs.kubectl;
  }

  /** Credentials that may do everything. */
  get kubeconfig(): string {
    return join(this.options.folder, 'kubeconfig');
  }

  get caFile(): string {
    return join(this.options.folder, 'certificates/apiserver.crt');
  }

  /** A kubeconfig that may do everything, with this namespace as the one of its context. */
  config(namespace: string): unknown {
    return kubeconfigOf({ server: this.url, caFile: this.caFile, token: this.adminToken, namespace });
  }

  get processes(): readonly SpawnedProcess[] {
    return [...this.running.values()];
  }

  async start(): Promise<void> {
    const { folder, nodes, port } = this.options;
    this.ports = {
      client: await port(STANDARD_PORTS.client),
      peer: await port(STANDARD_PORTS.peer),
      api: await port(STANDARD_PORTS.api),
    };
    mkdirSync(join(folder, 'certificates'), { recursive: true });
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    this.write('service-accounts.key', privateKey.export({ type: 'pkcs1', format: 'pem' }).toString());
    this.write('audit-policy.json', JSON.stringify(AUDIT_POLICY));
    this.write('tokens.csv', `${this.adminToken},admin,admin,"system:masters"\n`);
    writeKubeconfig(this.kubeconfig, { server: this.url, caFile: this.caFile, token: this.adminToken });
    try {
      await this.startComponent('etcd');
      await this.startComponent('kube-apiserver');
      await Promise.all([
        this.startComponent('kube-controller-manager'),
        ...(nodes > 0 ? [this.startComponent('kube-scheduler'), this.startComponent('kwok')] : []),
      ]);
      if (nodes > 0) await this.addNodes(nodes);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Stops everything, and removes the data. */
  async stop(): Promise<void> {
    for (const child of this.processes.toReversed()) await stopProcess(child);
    this.running.clear();
    for (const entry of [
      'etcd',
      'certificates',
      'service-accounts.key',
      'tokens.csv',
      'audit-policy.json',
      'kubeconfig',
    ]) {
      rmSync(join(this.options.folder, entry), { recursive: true, force: true });
    }
  }

  /** SIGKILL. */
  kill(component: Component): void {
    const child = this.running.get(component);
    if (child) killProcessNow(child);
  }

  /**
   * Starts a component that was killed, with its data and address. kwok begins anew once pods can be stored again: it gives
   * up a pod whose status it could not write (500, or a broken connection), where a kubelet tries again.
   */
  async restart(component: Component): Promise<void> {
    await this.startAgain(component);
    if (component === 'kwok' || !this.running.has('kwok')) return;
    const { signal } = this.options;
    await until('pods can be stored', () => this.storesPods(), { timeoutMs: START_TIMEOUT_MS, signal });
    this.kill('kwok');
    await this.startAgain('kwok');
  }

  /** A process that was killed holds its port until it is gone. */
  private async startAgain(component: Component): Promise<void> {
    const { signal } = this.options;
    const killed = this.running.get(component);
    const isGone = () => killed === undefined || !isAlive(killed);
    await until(`the end of ${component}`, isGone, { timeoutMs: START_TIMEOUT_MS, signal });
    await this.startComponent(component);
  }

  private async startComponent(component: Component): Promise<void> {
    const { folder, signal } = this.options;
    const logFile = join(folder, `${component}.log`);
    const child = spawnProcess({
      name: component,
      command: this.programs[component],
      args: this.argumentsOf(component),
      env: { PATH: process.env.PATH ?? '', HOME: folder },
      cwd: folder,
      logFile,
      account: undefined,
      stopSignal: 'SIGTERM',
      graceMs: 2_000,
    });
    this.running.set(component, child);
    this.options.spawned?.(child);
    const ready = () => this.isReady(component);
    await untilReady(child, logFile, ready, { timeoutMs: START_TIMEOUT_MS, signal });
  }

  /** A request as administrator. @returns the answer; undefined: 404 */
  async request<T>(
    method: string,
    path: string,
    body?: unknown,
    contentType = 'application/json',
  ): Promise<T | undefined> {
    const { Agent, fetch } = await import('undici');
    const agent = new Agent({ connect: { rejectUnauthorized: false } });
    try {
      const reply = await fetch(`${this.url}${path}`, {
        method,
        dispatcher: agent,
        headers: { authorization: `Bearer ${this.adminToken}`, 'content-type': contentType },
        signal: AbortSignal.timeout(30_000),
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await reply.text();
      if (reply.status === 404) return undefined;
      if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
      return (text.startsWith('{') ? JSON.parse(text) : text) as T;
    } finally {
      await agent.close();
    }
  }

  private async isReady(component: Component): Promise<boolean> {
    try {
      if (component === 'etcd') {
        const reply = await fetch(`http://127.0.0.1:${this.portsOf().client}/health`, {
          signal: AbortSignal.timeout(2_000),
        });
        await reply.body?.cancel();
        return reply.ok;
      }
      // The others need the API server only, and wait for it.
      await this.request('GET', '/readyz');
      return true;
    } catch {
      return false;
    }
  }

  /** The API server has a connection to etcd of its own for each kind of object, and each recovers in its own time. */
  private async storesPods(): Promise<boolean> {
    const path = '/api/v1/namespaces/default/pods';
    const name = `probe-${randomBytes(4).toString('hex')}`;
    try {
      const spec = { schedulerName: 'none', containers: [{ name: 'probe', image: 'probe' }] };
      await this.request('POST', path, { metadata: { name }, spec });
      await this.request('DELETE', `${path}/${name}?gracePeriodSeconds=0`);
      return true;
    } catch {
      return false;
    }
  }

  private async addNodes(count: number): Promise<void> {
    const size = { cpu: '100000', memory: '1000Ti', pods: '10000', 'nvidia.com/gpu': '8' };
    for (let i = 1; i <= count; i++) {
      const name = `node-${i}`;
      const metadata = {
        name,
        annotations: { 'kwok.x-k8s.io/node': 'fake' },
        labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' },
      };
      const status = { allocatable: size, capacity: size };
      await this.request('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata, status });
    }
  }

  private portsOf(): typeof STANDARD_PORTS {
    if (!this.ports) throw new Error('the cluster was not started');
    return this.ports;
  }

  private argumentsOf(component: Component): string[] {
    const { folder, auditLog } = this.options;
    const { client, peer, api } = this.portsOf();
    const [clientUrl, peerUrl] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
    const [certificates, key] = [join(folder, 'certificates'), join(folder, 'service-accounts.key')];
    switch (component) {
      case 'etcd':
        return [
          '--name=kaimai',
          `--data-dir=${join(folder, 'etcd')}`,
          `--listen-client-urls=${clientUrl}`,
          `--advertise-client-urls=${clientUrl}`,
          `--listen-peer-urls=${peerUrl}`,
          `--initial-advertise-peer-urls=${peerUrl}`,
          `--initial-cluster=kaimai=${peerUrl}`,
          // Its data need not survive the machine.
          '--unsafe-no-fsync',
        ];
      case 'kube-apiserver':
        return [
          `--etcd-servers=${clientUrl}`,
          '--bind-address=127.0.0.1',
          '--advertise-address=127.0.0.1',
          `--secure-port=${api}`,
          `--cert-dir=${certificates}`,
          `--token-auth-file=${join(folder, 'tokens.csv')}`,
          '--authorization-mode=RBAC',
          '--service-cluster-ip-range=10.96.0.0/16',
          '--endpoint-reconciler-type=none',
          '--service-account-issuer=https://kubernetes.default.svc',
          `--service-account-key-file=${key}`,
          `--service-account-signing-key-file=${key}`,
          // Pods need no service account, whose controller would be one more to wait for.
          '--disable-admission-plugins=ServiceAccount',
          ...(auditLog === undefined
            ? []
            : [`--audit-policy-file=${join(folder, 'audit-policy.json')}`, `--audit-log-path=${auditLog}`]),
        ];
      case 'kube-controller-manager':
        return [
          `--kubeconfig=${this.kubeconfig}`,
          '--leader-elect=false',
          `--service-account-private-key-file=${key}`,
          `--root-ca-file=${this.caFile}`,
          '--secure-port=0',
          '--kube-api-qps=500',
          '--kube-api-burst=1000',
          '--concurrent-statefulset-syncs=50',
          '--horizontal-pod-autoscaler-sync-period=2s',
        ];
      case 'kube-scheduler':
        return [
          `--kubeconfig=${this.kubeconfig}`,
          '--leader-elect=false',
          '--secure-port=0',
          '--kube-api-qps=500',
          '--kube-api-burst=1000',
        ];
      case 'kwok':
        return [
          `--kubeconfig=${this.kubeconfig}`,
          `--config=${join(projectRoot, 'deploy/kubernetes/local/stages.yaml')}`,
          '--manage-all-nodes=false',
          '--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake',
          '--node-lease-duration-seconds=40',
        ];
      default:
        return component satisfies never;
    }
  }

  private write(name: string, text: string): void {
    writeFileSync(join(this.options.folder, name), text, { mode: 0o600 });
  }
}

interface KubeconfigOptions {
  readonly server: string;
  /** undefined: the server is not verified. */
  readonly caFile: string | undefined;
  readonly token: string;
  readonly namespace?: string;
}

export function writeKubeconfig(file: string, options: KubeconfigOptions): void {
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(kubeconfigOf(options), null, 2), { mode: 0o600 });
}

function kubeconfigOf({ server, caFile, token, namespace }: KubeconfigOptions): unknown {
  const trust = caFile === undefined ? { 'insecure-skip-tls-verify': true } : { 'certificate-authority': caFile };
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'local', cluster: { server, ...trust } }],
    users: [{ name: 'kaimai', user: { token } }],
    contexts: [{ name: 'local', context: { cluster: 'local', user: 'kaimai', ...(namespace && { namespace }) } }],
    'current-context': 'local',
  };
}
