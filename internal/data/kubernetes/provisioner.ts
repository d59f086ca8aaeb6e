import { setTimeout as sleep } from 'node:timers/promises';
import type { KubernetesObject, V1StatefulSet } from '@kubernetes/client-node';
import { unavailable } from '../../../gen/common/v1/errors.js';
import { instanceName } from '../../biz/instance/instance.js';
import {
  type InstanceStateChange,
  type ProvisionedInstance,
  Provisioner,
  type ProvisionOutcome,
} from '../../biz/instance/instance-job.js';
import type { InstanceJob, InstanceOrder } from '../../biz/instance/instance-log.js';
import type { Logger } from '../../kratos/log/logger.js';
import type { Metrics } from '../../kratos/metrics/metrics.js';
import { type ApiFault, faultOf } from './api-fault.js';
import { ClusterAccess } from './cluster-access.js';
import { FailedCreations } from './failed-creations.js';
import { EMPTY_TEMPLATE, type InstanceTemplate, readTemplate } from './instance-template.js';
import { KubernetesApi, type KubernetesApiOptions } from './kubernetes-api.js';
import { differingLabels, INSTANCE_SELECTOR, labelledInstance, labelsOf, MANAGED_BY } from './labels.js';
import { dependentsOf, ImageMap, workloadOf } from './manifest.js';
import { PodWatch } from './pod-watch.js';

export interface KubernetesOptions extends KubernetesApiOptions {
  /** Empty: the service account of this pod. */
  readonly kubeconfig: string;
  readonly namespace: string;
  readonly namespacePerUser: boolean;
  readonly images: readonly string[];
  /** Path; empty: none. */
  readonly template: string;
  readonly readyTimeoutMs: number;
}

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
/** A pod appears within milliseconds. If it does not, the events of its workload say why. */
const POD_OVERDUE_MS = 2_000;
const PAGE = 500;

/** Ends an attempt with its outcome. */
class Outcome extends Error {
  constructor(readonly value: ProvisionOutcome) {
    super('reason' in value ? value.reason : value.kind);
  }
}

/**
 * Instances as workloads of a Kubernetes cluster, under the name `inst-<instance id>`.
 *
 * The name makes a creation repeatable: if it exists, its labels say whether it is this instance. A creation whose answer
 * was lost is read before it is tried again. Objects whose labels are not those of the instance are never touched.
 */
export class KubernetesProvisioner extends Provisioner {
  private readonly api: KubernetesApi;
  private readonly images: ImageMap;
  private readonly template: InstanceTemplate;
  private readonly watch: PodWatch;
  private readonly failures: FailedCreations;
  private changed: (instanceId: bigint) => void = () => {};

  /** @throws Error if the template or the credentials cannot be read */
  constructor(
    private readonly options: KubernetesOptions,
    private readonly logger: Logger,
    metrics: Metrics,
    access = new ClusterAccess(options.kubeconfig),
  ) {
    super();
    // A process without credentials ends at its start, with the reason.
    access.getCurrentCluster();
    this.api = new KubernetesApi(access, options, metrics);
    this.failures = new FailedCreations(this.api.core, POD_OVERDUE_MS);
    this.images = new ImageMap(options.images);
    this.template = options.template === '' ? EMPTY_TEMPLATE : readTemplate(options.template);
    const namespace = options.namespacePerUser ? undefined : options.namespace;
    this.watch = new PodWatch(this.api, namespace, logger, metrics, (name) =>
      this.changed(BigInt(name.slice('inst-'.length))),
    );
  }

  override onChange(listener: (instanceId: bigint) => void): void {
    this.changed = listener;
  }

  override statesOf(instanceIds: readonly bigint[]): readonly InstanceStateChange[] {
    return instanceIds.map((instanceId) => {
      const pod = this.watch.get(instanceName(instanceId));
      const state = pod?.ready ? 'RUNNING' : 'DOWN';
      return { instanceId, state, reason: pod?.reason ?? 'it has no pod', address: pod?.address ?? '' };
    });
  }

  async close(): Promise<void> {
    // Together: the watch may be waiting for an answer.
    await Promise.all([this.watch.close(), this.api.close()]);
  }

  override async create(job: InstanceJob, signal: AbortSignal): Promise<ProvisionOutcome> {
    const reference = this.images.referenceOf(job.size.image);
    if (reference === undefined) return { kind: 'failed', reason: `the image ${job.size.image} is unknown` };
    try {
      // The first list would bring the API server no harm for each job, but only one is needed.
      await within(this.watch.start(), this.options.requestTimeoutMs, 'the API server does not list the instances');
      const workload = await this.createObject(
        workloadOf(job, reference, this.namespaceOf(job), this.template),
        job,
        signal,
      );
      for (const dependent of dependentsOf(job, workload, this.template)) {
        const created = await this.createObject(dependent, job, signal);
        if (!isOwnedBy(created, workload)) {
          throw new Outcome({ kind: 'retry', reason: `the ${created.kind} of an earlier ${job.name} still exists` });
        }
      }
      return await this.whenReady(job, workload, signal);
    } catch (err) {
      if (err instanceof Outcome) return err.value;
      if (signal.aborted) return { kind: 'unavailable', reason: 'the process stops' };
      return outcomeOf(faultOf(err));
    }
  }

  override async remove(job: InstanceJob): Promise<void> {
    await this.reached(async () => {
      const found = await this.read(workloadReference(job.name, this.namespaceOf(job)));
      if (found === undefined) return;
      const differing = differingLabels(found, job);
      if (differing.length === 0) return this.delete(found);
      this.logger.warn('an object with the name of an instance is not that instance, and stays', {
        name: job.name,
        differing,
      });
    });
  }

  override async list(): Promise<readonly ProvisionedInstance[]> {
    return this.reached(async () => {
      await within(this.watch.start(), this.options.requestTimeoutMs, 'the API server does not list the instances');
      const instances: ProvisionedInstance[] = [];
      for await (const workload of this.workloads()) {
        const labelled = labelledInstance(workload);
        const { creationTimestamp, deletionTimestamp, namespace = '', uid = '' } = workload.metadata ?? {};
        if (labelled === undefined || deletionTimestamp !== undefined) continue;
        const pod = this.watch.get(labelled.name);
        instances.push({
          ...labelled,
          createdAt: creationTimestamp ?? new Date(),
          ready: pod?.ready ?? false,
          reason: pod?.ready ? '' : (pod?.reason ?? 'it has no pod'),
          address: pod?.address ?? '',
          handle: `${namespace}/${uid}`,
        });
      }
      return instances;
    });
  }

  override async removeListed({ name, handle }: ProvisionedInstance): Promise<void> {
    const [namespace = '', uid = ''] = handle.split('/');
    await this.reached(() =>
      this.delete({ ...workloadReference(name, namespace), metadata: { name, namespace, uid } }),
    );
  }

  private namespaceOf(order: InstanceOrder): string {
    const { namespace, namespacePerUser } = this.options;
    return namespacePerUser ? `${namespace}-${order.userId}` : namespace;
  }

  /**
   * Creates the object, or finds it created.
   * @throws Outcome when it is another's, cannot be created, or could not be created within the retry budget
   */
  private async createObject<T extends KubernetesObject>(object: T, job: InstanceJob, signal: AbortSignal): Promise<T> {
    const giveUpAtMs = performance.now() + this.options.retryBudgetMs;
    for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)) {
      if (Date.now() >= job.leaseEndsAt.getTime()) {
        throw new Outcome({ kind: 'retry', reason: 'the lease ended before the instance was created' });
      }
      let fault: ApiFault;
      try {
        return await this.api.objects.create(object);
      } catch (err) {
        fault = faultOf(err);
      }
      if (fault.kind === 'notFound' && (await this.createNamespace(object))) continue;
      // Read before another try: the request may have been carried out.
      if (fault.kind === 'conflict' || fault.kind === 'failed' || fault.kind === 'unanswered') {
        const found = await this.read(object);
        if (found !== undefined) return this.assertOwn(found, job);
      } else {
        throw new Outcome(outcomeOf(fault));
      }
      const waitMs = Math.max(retryMs * (0.75 + Math.random() / 2), askedWaitMs(fault));
      // The API server answers, so the fault is one of this object.
      if (performance.now() + waitMs > giveUpAtMs) throw new Outcome({ kind: 'retry', reason: fault.reason });
      await sleep(waitMs, undefined, { signal });
    }
  }

  /** @throws Outcome if the object belongs to something else, or is being deleted */
  private assertOwn<T extends KubernetesObject>(found: T, job: InstanceJob): T {
    const labels = labelsOf(job);
    const isWorkload = found.kind === 'StatefulSet';
    const differing = isWorkload
      ? differingLabels(found, job)
      : Object.keys(labels).filter((key) => found.metadata?.labels?.[key] !== labels[key]);
    if (differing.length > 0) {
      const reason = `the name ${job.name} is taken by another ${found.kind}: its ${differing.join(', ')} differ`;
      throw new Outcome({ kind: 'failed', reason });
    }
    if (found.metadata?.deletionTimestamp !== undefined) {
      throw new Outcome({ kind: 'retry', reason: `an earlier ${job.name} is still being deleted` });
    }
    return found;
  }

  /** @returns undefined if there is no such object. Repeats requests that fail for a passing reason. */
  private async read<T extends KubernetesObject>({ apiVersion, kind, metadata }: T): Promise<T | undefined> {
    const { name = '', namespace = '' } = metadata ?? {};
    try {
      return await this.repeated(() =>
        this.api.objects.read<T>({ apiVersion, kind, metadata: { name, namespace } } as Parameters<
          typeof this.api.objects.read<T>
        >[0]),
      );
    } catch (err) {
      if (faultOf(err).kind === 'notFound') return undefined;
      throw err;
    }
  }

  /** Deletes exactly this object; what it owns follows. One that is gone, or was replaced by another, is fine. */
  private async delete(object: KubernetesObject): Promise<void> {
    const { uid = '' } = object.metadata ?? {};
    const options = { preconditions: { uid }, propagationPolicy: 'Background' };
    try {
      await this.repeated(() =>
        this.api.objects.delete(object, undefined, undefined, undefined, undefined, undefined, options),
      );
    } catch (err) {
      const { kind } = faultOf(err);
      if (kind !== 'notFound' && kind !== 'conflict') throw err;
    }
  }

  /** @returns whether it created the namespace of a user, which the object lacked */
  private async createNamespace({ metadata }: KubernetesObject): Promise<boolean> {
    const { namespace: name = '', labels = {} } = metadata ?? {};
    if (!this.options.namespacePerUser) return false;
    const user = labels['kaimai.dev/user-id'] ?? '';
    try {
      await this.api.core.createNamespace({
        body: {
          metadata: {
            name,
            labels: {
              [MANAGED_BY.label]: MANAGED_BY.value,
              'kaimai.dev/user-id': user,
              'pod-security.kubernetes.io/enforce': 'restricted',
            },
          },
        },
      });
    } catch (err) {
      if (faultOf(err).kind !== 'conflict') throw err;
    }
    return true;
  }

  /** Waits until the pod is ready, has a reason that is permanent, or the time is over. */
  private async whenReady(job: InstanceJob, workload: V1StatefulSet, signal: AbortSignal): Promise<ProvisionOutcome> {
    const createdAtMs = workload.metadata?.creationTimestamp?.getTime() ?? Date.now();
    const remainingMs = Math.max(0, createdAtMs + this.options.readyTimeoutMs - Date.now());
    const settled = Promise.withResolvers<ProvisionOutcome>();
    const fail = (reason: string) => settled.resolve({ kind: 'failed', reason });
    const stop = this.watch.listen(job.name, (pod) => {
      if (pod?.ready) settled.resolve({ kind: 'running', address: pod.address });
      else if (pod?.permanent) fail(pod.reason);
    });
    const timeout = setTimeout(() => {
      const reason = this.watch.get(job.name)?.reason ?? 'it has no pod';
      fail(`not ready within ${this.options.readyTimeoutMs / 1_000} s: ${reason}`);
    }, remainingMs);
    const overdue = setInterval(() => {
      if (this.watch.get(job.name) !== undefined) return;
      this.failures.rejectionOf(workload).then(
        (reason) => reason !== undefined && fail(reason),
        () => {},
      );
    }, POD_OVERDUE_MS);
    const onAbort = () => settled.resolve({ kind: 'unavailable', reason: 'the process stops' });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return await settled.promise;
    } finally {
      stop();
      clearTimeout(timeout);
      clearInterval(overdue);
      signal.removeEventListener('abort', onAbort);
    }
  }

  private async *workloads(): AsyncGenerator<V1StatefulSet> {
    const { namespace, namespacePerUser } = this.options;
    let _continue: string | undefined;
    do {
      const request = { labelSelector: INSTANCE_SELECTOR, limit: PAGE, ...(_continue && { _continue }) };
      const page = await this.repeated(() =>
        namespacePerUser
          ? this.api.apps.listStatefulSetForAllNamespaces(request)
          : this.api.apps.listNamespacedStatefulSet({ ...request, namespace }),
      );
      yield* page.items;
      _continue = page.metadata?._continue;
    } while (_continue);
  }

  /** Repeats a request without side effects, or one that may be repeated, within the retry budget. */
  private async repeated<T>(request: () => Promise<T>): Promise<T> {
    const giveUpAtMs = performance.now() + this.options.retryBudgetMs;
    for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)) {
      let waitMs = retryMs * (0.75 + Math.random() / 2);
      try {
        return await request();
      } catch (err) {
        const fault = faultOf(err);
        waitMs = Math.max(waitMs, askedWaitMs(fault));
        const passing = fault.kind === 'failed' || fault.kind === 'unanswered';
        if (!passing || performance.now() + waitMs > giveUpAtMs) throw err;
      }
      await sleep(waitMs);
    }
  }

  /** @throws UNAVAILABLE for every fault of the API server */
  private async reached<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (err) {
      if (err instanceof Outcome) throw unavailable(err.message, { cause: err });
      throw unavailable(`the API server: ${faultOf(err).reason}`, { cause: err });
    }
  }
}

function workloadReference(name: string, namespace: string): V1StatefulSet {
  return { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { name, namespace } };
}

function isOwnedBy({ metadata }: KubernetesObject, owner: KubernetesObject): boolean {
  return metadata?.ownerReferences?.some(({ uid }) => uid === owner.metadata?.uid) ?? false;
}

/** What the API server asks to wait before another try. */
function askedWaitMs(fault: ApiFault): number {
  return (fault.kind === 'failed' ? fault.retryAfterMs : undefined) ?? 0;
}

function outcomeOf(fault: ApiFault): ProvisionOutcome {
  switch (fault.kind) {
    case 'rejected':
      return { kind: 'failed', reason: fault.reason };
    case 'conflict':
      return { kind: 'retry', reason: fault.reason };
    case 'notFound':
    case 'forbidden':
    case 'throttled':
    case 'failed':
    case 'unanswered':
      return { kind: 'unavailable', reason: fault.reason };
    default:
      return fault satisfies never;
  }
}

/** @throws Outcome when it takes longer */
async function within<T>(work: Promise<T>, timeoutMs: number, reason: string): Promise<T> {
  const timeout = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: timeout.signal }).then(() => {
    throw new Outcome({ kind: 'unavailable', reason });
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timeout.abort();
  }
}
