import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import { ClusterAccess } from '../../internal/data/kubernetes/cluster-access.js';
import { KubernetesProvisioner } from '../../internal/data/kubernetes/provisioner.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { useCluster } from '../support/kubernetes.js';
import { provisionerOptions } from '../support/kubernetes-provisioner.js';
import { eventually } from '../support/wait.js';

const READER = [
  { apiGroups: ['apps'], resources: ['statefulsets'], verbs: ['list'] },
  { apiGroups: [''], resources: ['pods'], verbs: ['list', 'watch'] },
];

describe('Access to the API server', () => {
  const suite = useCluster();
  const open: KubernetesProvisioner[] = [];
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;

  function provisioner(
    changes: Parameters<typeof provisionerOptions>[1],
    access?: ClusterAccess,
  ): KubernetesProvisioner {
    const options = provisionerOptions(suite, { retryBudgetMs: 100, ...changes });
    const made = new KubernetesProvisioner(options, new SilentLogger(), new Metrics(), access);
    open.push(made);
    return made;
  }

  afterEach(async () => {
    for (const made of open.splice(0)) await made.close();
    for (const [name, value] of Object.entries({ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });

  /** A mounted service account as the kubelet lays it out: all its files change at once, by a rename of a link. */
  class MountedAccount {
    readonly folder: string;
    private mounts = 0;

    constructor() {
      this.folder = mkdtempSync(suite.file('account-'));
      for (const file of ['token', 'ca.crt']) symlinkSync(join('..data', file), join(this.folder, file));
    }

    mount(token: string, ca: string): void {
      const name = `..mount-${++this.mounts}`;
      mkdirSync(join(this.folder, name));
      writeFileSync(join(this.folder, name, 'token'), token);
      writeFileSync(join(this.folder, name, 'ca.crt'), ca);
      symlinkSync(name, join(this.folder, '..data-new'));
      renameSync(join(this.folder, '..data-new'), join(this.folder, '..data'));
    }
  }

  it('is that of the service account of the pod, whose new tokens and certificates are read', async () => {
    await suite.serviceAccount('pod', READER);
    const { hostname, port: apiPort } = new URL(suite.cluster.url);
    process.env.KUBERNETES_SERVICE_HOST = hostname;
    process.env.KUBERNETES_SERVICE_PORT = apiPort;
    const account = new MountedAccount();
    const ca = readFileSync(suite.cluster.caFile, 'utf8');
    account.mount(await suite.token('pod'), ca);
    const made = provisioner({ kubeconfig: '' }, new ClusterAccess('', account.folder));
    assert.deepEqual(await made.list(), []);

    const isRefused = (text: RegExp) => async () => {
      const err = await made.list().then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.ok(err === undefined || isUnavailable(err));
      return err !== undefined && text.test(String(err));
    };
    const works = async () => (await made.list()).length === 0;
    account.mount('revoked', ca);
    await eventually('the token is refused', isRefused(/401 Unauthorized/));
    account.mount(await suite.token('pod'), ca);
    await eventually('the new token is used', works);
    account.mount(await suite.token('pod'), rootCertificates[0] ?? '');
    await eventually('the API server is not trusted', isRefused(/self[- ]signed certificate|unable to verify/));
    account.mount(await suite.token('pod'), ca);
    await eventually('the new certificate is used', works);
  });

  it('is refused at the start outside of a pod, and by a kubeconfig that cannot be read or names no cluster', () => {
    delete process.env.KUBERNETES_SERVICE_HOST;
    assert.throws(() => provisioner({ kubeconfig: '' }), /^Error: resource.kubernetes.kubeconfig is empty, and this/);
    const file = suite.file('none.kubeconfig');
    assert.throws(() => provisioner({ kubeconfig: file }), /ENOENT/);
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'Config', clusters: [], users: [], contexts: [] }));
    assert.throws(() => provisioner({ kubeconfig: file }), /has no cluster in its current context/);
  });

  it('survives that the kubeconfig is away or half written, and reads the next one', async () => {
    await suite.serviceAccount('file', READER);
    const file = suite.file('file.kubeconfig');
    const valid = readFileSync(file, 'utf8');
    const made = provisioner({ kubeconfig: file });
    assert.deepEqual(await made.list(), []);
    // The connection is kept, but each request asks for the credentials.
    const aside = join(dirname(file), 'aside.kubeconfig');
    renameSync(file, aside);
    await afterLook();
    assert.deepEqual(await made.list(), []);
    writeFileSync(file, valid.slice(0, valid.length / 2));
    await afterLook();
    assert.deepEqual(await made.list(), []);
    writeFileSync(file, valid.replace(/"token": "[^"]+"/, '"token": "revoked"'));
    await eventually('the next one is used', () =>
      made.list().then(
        () => false,
        (err: unknown) => String(err).includes('401 Unauthorized'),
      ),
    );
  });

  it('begins no more requests than the limit allows, of all callers together', async () => {
    const made = provisioner({ requests: { perSecond: 20, burst: 3 } });
    const startedMs = performance.now();
    await Promise.all(Array.from({ length: 22 }, () => made.list()));
    // One list of the pods, which all share, and one of the workloads each.
    const leastMs = ((1 + 22 - 3) / 20) * 1_000;
    assert.ok(performance.now() - startedMs >= leastMs - 5);
  });
});

/** Until the files are looked at again. */
function afterLook(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1_100));
}
