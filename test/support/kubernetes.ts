/**
 * A Kubernetes cluster for the suites of one mocha run. It starts on first use and stops after the last suite. Where its
 * programs are missing, the suites are skipped, with one line that says so.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalCluster, writeKubeconfig } from '../../internal/local/kubernetes/cluster.js';
import { findPrograms, missingPrograms } from '../../internal/local/kubernetes/programs.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { killProcessNow } from '../../internal/local/servers/process.js';

const START_TIMEOUT_MS = 120_000;

let shared: Promise<LocalCluster> | undefined;
let folder: string | undefined;
let told = false;

function sharedCluster(): Promise<LocalCluster> {
  shared ??= startCluster();
  return shared;
}

async function startCluster(): Promise<LocalCluster> {
  folder = mkdtempSync(join(tmpdir(), 'kaimai-kubernetes-'));
  const { signal } = new AbortController();
  const cluster = new LocalCluster({ folder, port: freePort, signal, nodes: 2, auditLog: join(folder, 'audit.log') });
  // A run that is interrupted leaves nothing behind.
  process.once('exit', () => {
    for (const child of cluster.processes) killProcessNow(child);
  });
  await cluster.start();
  return cluster;
}

after('stop the Kubernetes cluster of the test run', async () => {
  if (!shared) return;
  await shared.then(
    (cluster) => cluster.stop(),
    () => {},
  );
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** A namespace of the cluster for one suite, and what a test asks of the API server. */
export class SuiteCluster {
  private started: LocalCluster | undefined;
  namespace = '';

  get cluster(): LocalCluster {
    if (!this.started) throw new Error('read it inside a hook or a test');
    return this.started;
  }

  get kubeconfig(): string {
    return this.cluster.kubeconfig;
  }

  /** The `resource` section of a configuration that uses this namespace. */
  settings(changes: Record<string, unknown> = {}): Record<string, unknown> {
    const kubernetes = {
      ...{ kubeconfig: this.kubeconfig, namespace: this.namespace, images: ['*=registry.example/{image}'] },
      ...{ requests: { per_second: 0, burst: 1 }, ...changes },
    };
    return { provisioner: 'kubernetes', kubernetes };
  }

  /** @internal */
  async open(): Promise<void> {
    this.started = await sharedCluster();
    this.namespace = `test-${randomBytes(4).toString('hex')}`;
    await this.createNamespace(this.namespace);
  }

  /** @internal */
  async close(): Promise<void> {
    await this.started?.request('DELETE', `/api/v1/namespaces/${this.namespace}`);
  }

  async createNamespace(name: string): Promise<void> {
    await this.cluster.request('POST', '/api/v1/namespaces', { metadata: { name } });
  }

  /** The names of the objects of a kind, such as `apis/apps/v1` and `statefulsets`. */
  async names(group: string, kind: string, namespace = this.namespace): Promise<readonly string[]> {
    const path = `/${group}/namespaces/${namespace}/${kind}`;
    const list = await this.cluster.request<{ items: { metadata: { name: string } }[] }>('GET', path);
    return (list?.items ?? []).map(({ metadata }) => metadata.name).sort();
  }

  statefulSets(): Promise<readonly string[]> {
    return this.names('apis/apps/v1', 'statefulsets');
  }

  pods(): Promise<readonly string[]> {
    return this.names('api/v1', 'pods');
  }

  async get<T = KubernetesJson>(path: string): Promise<T | undefined> {
    return this.cluster.request<T>('GET', path.replace('{namespace}', this.namespace));
  }

  /** A kubeconfig of a new service account of this namespace, with the rules of a role. @returns its path */
  async serviceAccount(
    name: string,
    rules: readonly unknown[],
    kind: 'Role' | 'ClusterRole' = 'Role',
  ): Promise<string> {
    const { cluster, namespace } = this;
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    const [prefix, scope] = kind === 'Role' ? ['', `${rbac}/namespaces/${namespace}/`] : ['cluster', `${rbac}/`];
    // Those of the whole cluster outlive the namespace.
    const role = kind === 'Role' ? name : `${namespace}-${name}`;
    await cluster.request('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } });
    await cluster.request('POST', `${scope}${prefix}roles`, { metadata: { name: role }, rules });
    await cluster.request('POST', `${scope}${prefix}rolebindings`, {
      metadata: { name: role },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: role },
      subjects: [{ kind: 'ServiceAccount', name, namespace }],
    });
    const file = this.file(`${name}.kubeconfig`);
    const token = await this.token(name);
    writeKubeconfig(file, { server: cluster.url, caFile: cluster.caFile, token });
    return file;
  }

  /** What a service account asked of the API server, as the rules of a role name it, and the status of each answer. */
  requestsOf(serviceAccount: string): readonly { readonly rule: string; readonly status: number }[] {
    const username = `system:serviceaccount:${this.namespace}:${serviceAccount}`;
    const lines = readFileSync(join(folder ?? tmpdir(), 'audit.log'), 'utf8').split('\n');
    const events = lines.filter((line) => line !== '').map((line) => JSON.parse(line) as AuditEvent);
    return events.flatMap(({ user, verb, objectRef, responseStatus }) => {
      if (user.username !== username || !objectRef?.resource) return [];
      const { apiGroup = '', resource, subresource } = objectRef;
      const path = subresource === undefined ? resource : `${resource}/${subresource}`;
      return [{ rule: ruleOf(apiGroup, path, verb), status: responseStatus?.code ?? 0 }];
    });
  }

  /** The path of a file of this suite. */
  file(name: string): string {
    return join(folder ?? tmpdir(), `${this.namespace}-${name}`);
  }

  /** A token of a service account, as a pod gets it. */
  async token(name: string): Promise<string> {
    const path = `/api/v1/namespaces/${this.namespace}/serviceaccounts/${name}/token`;
    const reply = await this.cluster.request<{ status: { token: string } }>('POST', path, { spec: {} });
    return reply?.status.token ?? '';
  }
}

interface AuditEvent {
  readonly user: { readonly username: string };
  readonly verb: string;
  readonly objectRef?: { readonly apiGroup?: string; readonly resource?: string; readonly subresource?: string };
  readonly responseStatus?: { readonly code: number };
}

export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** Each single permission of the rules, in alphabetical order. */
export function permissionsOf(rules: readonly PolicyRule[]): readonly string[] {
  return rules
    .flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) => resources.flatMap((name) => verbs.map((verb) => ruleOf(group, name, verb)))),
    )
    .sort();
}

function ruleOf(apiGroup: string, resource: string, verb: string): string {
  return `${verb} ${apiGroup === '' ? 'core' : apiGroup}/${resource}`;
}

// biome-ignore lint/suspicious/noExplicitAny: whatever the API server says
export type KubernetesJson = any;

/** Registers the hooks of the enclosing suite, which is skipped where the programs are missing. */
export function useCluster(): SuiteCluster {
  const suite = new SuiteCluster();
  before('Kubernetes cluster', async function () {
    this.timeout(START_TIMEOUT_MS);
    if (!findPrograms()) {
      if (!told) console.log(`    skipped: ${missingPrograms()}`);
      told = true;
      this.skip();
    }
    await suite.open();
  });
  after('remove the namespace', async () => {
    await suite.close();
  });
  return suite;
}
