import type { V1Pod } from '@kubernetes/client-node';

/** What the watch keeps of a pod. Whole pods would take 5 kB each. */
export interface PodState {
  readonly uid: string;
  readonly ready: boolean;
  readonly address: string;
  /** Why it is not ready; empty if it is, or if there is no reason yet. */
  readonly reason: string;
  /** Whether the reason will not go away by itself. */
  readonly permanent: boolean;
  readonly ending: boolean;
}

/**
 * Reasons of a waiting container that need a change of the image or of the spec. ErrImagePull is not among them: the
 * kubelet tries again once, and then says ImagePullBackOff.
 */
const PERMANENT = new Set([
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'CreateContainerConfigError',
  'CreateContainerError',
]);

export function podState({ metadata, status }: V1Pod): PodState {
  const ending = metadata?.deletionTimestamp !== undefined;
  const condition = (type: string) => status?.conditions?.find((c) => c.type === type);
  const ready = !ending && condition('Ready')?.status === 'True';
  const waiting = status?.containerStatuses?.map((c) => c.state?.waiting).find((w) => w?.reason !== undefined);
  const scheduled = condition('PodScheduled');
  let reason = '';
  if (ending) reason = 'its pod is being deleted';
  else if (waiting) reason = join(waiting.reason, waiting.message);
  else if (status?.reason) reason = join(status.reason, status.message);
  else if (scheduled?.status === 'False') reason = join(scheduled.reason, scheduled.message);
  else if (!ready) reason = `its pod is ${status?.phase ?? 'Pending'}`;
  return {
    uid: metadata?.uid ?? '',
    ready,
    address: status?.podIP ?? '',
    reason: ready ? '' : reason,
    permanent: !ready && !ending && waiting !== undefined && PERMANENT.has(waiting.reason ?? ''),
    ending,
  };
}

function join(reason = 'unknown reason', message = ''): string {
  return message === '' ? reason : `${reason}: ${message}`;
}
