import { createHash } from 'node:crypto';
import type { KubernetesObject } from '@kubernetes/client-node';
import type { InstanceOrder, InstanceSize } from '../../biz/instance/instance-log.js';

/** Every object of Kaimai bears it, and no other object is ever changed. */
export const MANAGED_BY = { label: 'app.kubernetes.io/managed-by', value: 'kaimai' } as const;
export const INSTANCE_LABEL = 'kaimai.dev/instance-id';
const USER_LABEL = 'kaimai.dev/user-id';
const PRODUCT_LABEL = 'kaimai.dev/product-id';
/** The size has characters that a label cannot have. */
const SIZE_ANNOTATION = 'kaimai.dev/size';

/** Selects the objects of instances. */
export const INSTANCE_SELECTOR = `${MANAGED_BY.label}=${MANAGED_BY.value},${INSTANCE_LABEL}`;

const LABEL_VALUE = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** Whom and what the instance is for. All objects of an instance have these labels. */
export function labelsOf(order: InstanceOrder): Record<string, string> {
  return {
    [MANAGED_BY.label]: MANAGED_BY.value,
    'app.kubernetes.io/name': 'instance',
    'app.kubernetes.io/instance': order.name,
    [INSTANCE_LABEL]: String(order.instanceId),
    [USER_LABEL]: order.userId,
    [PRODUCT_LABEL]: String(order.productId),
    'kaimai.dev/source': labelValue(order.source),
    'kaimai.dev/source-id': labelValue(order.sourceId),
    ...(order.orderId !== undefined && { 'kaimai.dev/order-id': String(order.orderId) }),
  };
}

export function annotationsOf({ size }: InstanceOrder): Record<string, string> {
  return { [SIZE_ANNOTATION]: JSON.stringify([size.cpus, size.memoryMb, size.gpu, size.image]) };
}

/** A text as a label; of one that a label cannot hold, its hash. */
function labelValue(text: string): string {
  return LABEL_VALUE.test(text) ? text : `sha256-${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
}

/** The labels in which an object differs from the instance that should have its name; none: it is that instance. */
export function differingLabels({ metadata }: KubernetesObject, order: InstanceOrder): readonly string[] {
  const differing = (expected: Record<string, string>, found: Readonly<Record<string, string>> = {}) =>
    Object.keys(expected).filter((key) => found[key] !== expected[key]);
  return [...differing(labelsOf(order), metadata?.labels), ...differing(annotationsOf(order), metadata?.annotations)];
}

/** What the labels of an instance's workload say. */
export interface LabelledInstance {
  readonly name: string;
  readonly instanceId: bigint;
  readonly userId: string;
  readonly productId: bigint;
  readonly size: InstanceSize;
}

/** @returns undefined for an object whose labels do not describe an instance of its name */
export function labelledInstance({ metadata }: KubernetesObject): LabelledInstance | undefined {
  const { name = '', labels = {}, annotations = {} } = metadata ?? {};
  const instanceId = integerOf(labels[INSTANCE_LABEL]);
  const productId = integerOf(labels[PRODUCT_LABEL]);
  const size = sizeOf(annotations[SIZE_ANNOTATION]);
  const userId = labels[USER_LABEL];
  if (labels[MANAGED_BY.label] !== MANAGED_BY.value || name !== `inst-${instanceId}`) return undefined;
  if (instanceId === undefined || productId === undefined || size === undefined || userId === undefined)
    return undefined;
  return { name, instanceId, userId, productId, size };
}

function integerOf(text = ''): bigint | undefined {
  return /^[1-9][0-9]{0,18}$/.test(text) ? BigInt(text) : undefined;
}

function sizeOf(text = ''): InstanceSize | undefined {
  try {
    const [cpus, memoryMb, gpu, image] = JSON.parse(text) as [unknown, unknown, unknown, unknown];
    if (typeof cpus !== 'number' || typeof memoryMb !== 'number' || typeof gpu !== 'number') return undefined;
    return typeof image === 'string' ? { cpus, memoryMb, gpu, image } : undefined;
  } catch {
    return undefined;
  }
}
