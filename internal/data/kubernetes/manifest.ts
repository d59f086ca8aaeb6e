import type { KubernetesObject, V1StatefulSet } from '@kubernetes/client-node';
import type { InstanceOrder } from '../../biz/instance/instance-log.js';
import { type InstanceTemplate, type Json, merge } from './instance-template.js';
import { annotationsOf, INSTANCE_LABEL, labelsOf } from './labels.js';

export const CONTAINER = 'instance';
/** Of the `restricted` Pod Security Standard. A template may name another user, but not take the standard away. */
const USER = 65_532;

/** Which container images stand for the images of product specifications. */
export class ImageMap {
  private readonly references = new Map<string, string>();

  /** @param entries `name=reference`; the name `*` stands for all others, and `{image}` in its reference for the name */
  constructor(entries: readonly string[]) {
    for (const entry of entries) {
      const at = entry.indexOf('=');
      this.references.set(entry.slice(0, at), entry.slice(at + 1));
    }
  }

  /** @returns undefined for an unknown image */
  referenceOf(image: string): string | undefined {
    return this.references.get(image) ?? this.references.get('*')?.replaceAll('{image}', image);
  }
}

/**
 * The workload of an instance: a StatefulSet of one replica, because only that promises at most one running pod. A
 * Deployment starts a second one while the first may still run on a node that does not answer.
 */
export function workloadOf(
  order: InstanceOrder,
  reference: string,
  namespace: string,
  template: InstanceTemplate,
): V1StatefulSet {
  const labels = labelsOf(order);
  const resources = resourcesOf(order);
  const workload: Json = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    spec: {
      // What a template claims goes with the instance, unless the template says otherwise.
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Retain' },
      template: {
        spec: {
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: 10,
          securityContext: {
            runAsUser: USER,
            runAsGroup: USER,
            fsGroup: USER,
          },
          containers: [{ name: CONTAINER }],
        },
      },
    },
  };
  const decided: Json = {
    metadata: { name: order.name, namespace, labels, annotations: annotationsOf(order) },
    spec: {
      replicas: 1,
      serviceName: order.name,
      revisionHistoryLimit: 0,
      selector: { matchLabels: { [INSTANCE_LABEL]: String(order.instanceId) } },
      template: {
        metadata: { labels },
        spec: {
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          containers: [
            {
              name: CONTAINER,
              image: reference,
              resources: { requests: resources, limits: resources },
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            },
          ],
        },
      },
    },
  };
  // The client reads and writes what no template may change.
  return merge(merge(workload, template.workload), decided) as V1StatefulSet;
}

/** The other objects of an instance, which go with its workload. */
export function dependentsOf(
  order: InstanceOrder,
  owner: V1StatefulSet,
  template: InstanceTemplate,
): readonly KubernetesObject[] {
  const { namespace = '', uid = '' } = owner.metadata ?? {};
  const selector = { [INSTANCE_LABEL]: String(order.instanceId) };
  const ownerReferences = [{ apiVersion: 'apps/v1', kind: 'StatefulSet', name: order.name, uid, controller: true }];
  return template.others.map((object) => {
    const metadata = { name: order.name, namespace, labels: labelsOf(order), ownerReferences };
    const spec =
      object.kind === 'Service'
        ? { selector }
        : object.kind === 'NetworkPolicy' || object.kind === 'PodDisruptionBudget'
          ? { [object.kind === 'NetworkPolicy' ? 'podSelector' : 'selector']: { matchLabels: selector } }
          : undefined;
    return merge(object, { metadata, ...(spec && { spec }) }) as KubernetesObject;
  });
}

function resourcesOf({ size }: InstanceOrder): Record<string, string> {
  return {
    cpu: String(size.cpus),
    memory: `${size.memoryMb}Mi`,
    ...(size.gpu > 0 && { 'nvidia.com/gpu': String(size.gpu) }),
  };
}
