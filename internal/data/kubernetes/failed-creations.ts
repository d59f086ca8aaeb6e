import type { CoreV1Api, CoreV1Event, V1StatefulSet } from '@kubernetes/client-node';
import { isRejection } from './api-fault.js';

const PAGE = 500;

/**
 * Why workloads have no pod, by the events of their namespace. One list serves all of them: one for each took 28 requests
 * an instance while the cluster was slow.
 */
export class FailedCreations {
  private readonly lists = new Map<
    string,
    { readonly atMs: number; readonly events: Promise<readonly CoreV1Event[]> }
  >();

  /** @param maxAgeMs of a list that is used again */
  constructor(
    private readonly core: CoreV1Api,
    private readonly maxAgeMs: number,
  ) {}

  /** Why the cluster will never make the pod of a workload, such as a quota; undefined: no such reason is known. */
  async rejectionOf({ metadata }: V1StatefulSet): Promise<string | undefined> {
    const { namespace = '', uid = '' } = metadata ?? {};
    const events = await this.listed(namespace);
    return events.find((event) => event.involvedObject.uid === uid && isRejection(event.message ?? ''))?.message;
  }

  private listed(namespace: string): Promise<readonly CoreV1Event[]> {
    const nowMs = performance.now();
    for (const [name, { atMs }] of this.lists) if (nowMs >= atMs + this.maxAgeMs) this.lists.delete(name);
    const known = this.lists.get(namespace);
    if (known) return known.events;
    const events = this.list(namespace);
    this.lists.set(namespace, { atMs: nowMs, events });
    return events;
  }

  /** All pages: events stay for an hour, so those of instances that failed earlier could fill the first one. */
  private async list(namespace: string): Promise<readonly CoreV1Event[]> {
    const events: CoreV1Event[] = [];
    let _continue: string | undefined;
    do {
      const request = { namespace, fieldSelector: 'reason=FailedCreate', limit: PAGE, ...(_continue && { _continue }) };
      const page = await this.core.listNamespacedEvent(request);
      events.push(...page.items);
      _continue = page.metadata?._continue;
    } while (_continue);
    return events;
  }
}
