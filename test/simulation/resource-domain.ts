import type { InstanceEvent, InstanceReport } from '../../internal/biz/instance/instance.js';
import type { Random } from './random.js';

export interface Log {
  readonly event: InstanceEvent;
  status: 'PROCESSING' | 'SUCCESS' | 'FAILED';
  reported: boolean;
}

/** The resource domain as the product domain sees it: records a job once, creates the instance and repeats its report. */
export class ResourceDomain {
  readonly logs = new Map<string, Log>();
  /** Running instances: name → the event that requested it. */
  readonly running = new Map<string, InstanceEvent>();
  private readonly doomed = new Map<bigint, boolean>();

  constructor(
    private readonly random: Random,
    private readonly failureRate: number,
  ) {}

  record(event: InstanceEvent): void {
    const key = `${event.source} ${event.productId} ${event.sourceId}`;
    if (!this.logs.has(key)) this.logs.set(key, { event, status: 'PROCESSING', reported: false });
  }

  work(log: Log): void {
    const { event } = log;
    const doomed = this.doomed.get(event.instanceId) ?? this.random.chance(this.failureRate);
    this.doomed.set(event.instanceId, doomed);
    if (!doomed) this.running.set(event.name, event);
    log.status = doomed ? 'FAILED' : 'SUCCESS';
  }

  reportOf({ event, status }: Log): InstanceReport {
    return { instanceId: event.instanceId, status: status === 'FAILED' ? 'FAILED' : 'SUCCESS', reason: 'no capacity' };
  }
}
