import type { JsonObject } from '@bufbuild/protobuf';
import { ALL_REASONS } from '../../gen/reasons.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { FRAMEWORK_REASONS } from '../../internal/kratos/errors/reasons.js';
import { declaredReasons } from '../../internal/kratos/transport/openapi/declared-reasons.js';
import { openApiDocument } from '../../internal/kratos/transport/openapi/document.js';
import { accessRules } from '../../internal/server/access-rules.js';

/** A caller that has cancelled reads no reply, and an RPC of a newer version has no document here. */
const UNSEEN = new Set(['CANCELLED', 'UNIMPLEMENTED']);

const HANDLED = /^kaimai_server_handled_total\{([^}]*)\} [1-9]/gm;

/**
 * The errors that a process returned but the API documents do not mention, as `operation reason`.
 * @param metrics the text of its /metrics
 */
export function undocumentedReasons(metrics: string): string[] {
  const documented = documentedReasons();
  return [...metrics.matchAll(HANDLED)].flatMap(([, labels = '']) => {
    const label = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] ?? '';
    const reasons = documented.get(label('operation'));
    const reason = label('reason');
    if (reasons === undefined || reason === '' || UNSEEN.has(reason) || reasons.has(reason)) return [];
    return [`${label('operation')} ${reason}`];
  });
}

let known: ReadonlyMap<string, ReadonlySet<string>> | undefined;

/** By operation: for RPCs with a route what OpenAPI lists, for others what their protos declare. */
function documentedReasons(): ReadonlyMap<string, ReadonlySet<string>> {
  if (known) return known;
  const { registry } = loadDescriptors();
  const found = new Map<string, ReadonlySet<string>>();
  const services = [...registry.files].filter((f) => /^[a-z]+\/v1\//.test(f.name)).flatMap((f) => f.services);
  for (const method of services.flatMap((s) => s.methods)) {
    const reasons = [...declaredReasons(method, ALL_REASONS, registry), ...FRAMEWORK_REASONS].map((r) => r.reason);
    found.set(`/${method.parent.typeName}/${method.name}`, new Set([...reasons, 'PERMISSION_DENIED']));
  }
  const document = openApiDocument({
    registry,
    services: services.map((s) => s.typeName),
    reasons: ALL_REASONS,
    access: accessRules(registry),
    title: 'Kaimai',
    version: '1',
  });
  for (const item of Object.values(document.paths as JsonObject)) {
    for (const operation of Object.values(item as JsonObject) as JsonObject[]) {
      found.set(String(operation['x-rpc']), reasonsOf(operation.responses as JsonObject, document));
    }
  }
  known = found;
  return found;
}

function reasonsOf(responses: JsonObject, document: JsonObject): Set<string> {
  const shared = (document.components as JsonObject).responses as JsonObject;
  const reasons = Object.values(responses).flatMap((response) => {
    const ref = (response as { $ref?: string }).$ref;
    const full = (ref === undefined ? response : shared[ref.slice(ref.lastIndexOf('/') + 1)]) as {
      content?: Record<string, { schema?: { properties?: { reason?: { enum?: string[] } } } }>;
    };
    return full.content?.['application/json']?.schema?.properties?.reason?.enum ?? [];
  });
  return new Set(reasons);
}
