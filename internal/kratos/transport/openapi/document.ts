import type { DescMethod, DescService, FileRegistry, JsonObject } from '@bufbuild/protobuf';
import { stringify } from 'yaml';
import type { ReasonSpec } from '../../errors/error.js';
import { httpRulesOf } from '../transcoder/http-rule.js';
import type { ErrorShape } from '../transcoder/types.js';
import { type AccessRules, OPEN_ACCESS } from './access-rules.js';
import { commentOf } from './comments.js';
import { ErrorReplies } from './errors.js';
import { ENVELOPE, Operations } from './operations.js';
import { openApiPath } from './paths.js';
import { describe, type Schema } from './schema.js';
import { Schemas } from './schemas.js';

export interface DocumentOptions {
  readonly registry: FileRegistry;
  /** Full names, in the order in which the document has them. Services without an http rule are left out. */
  readonly services: readonly string[];
  readonly title: string;
  readonly version: string;
  /** Every reason that the services give. Its text is the comment of the value in the `ErrorReason` of its package. */
  readonly reasons: readonly ReasonSpec[];
  /** Who may call; absent: everybody may call everything. */
  readonly access?: AccessRules;
  /** Default `reason`. */
  readonly errorShape?: ErrorShape;
}

const METHODS = new Set(['GET', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD', 'TRACE']);

const INFO = [
  'JSON is proto3 JSON: names in lowerCamelCase (proto names are taken too), int64 and uint64 as text, enums by name,',
  'zero values written out, an absent message null. Every JSON body may also be sent and asked for as',
  '`application/x-protobuf`. Query parameters that no field takes are ignored.',
].join(' ');

const HEADERS = [
  '`Grpc-Timeout` (such as `500m` for 500 ms) ends a request early; `X-Request-Id` and `traceparent` are carried on;',
  '`Grpc-Metadata-*` becomes gRPC metadata, and metadata of the reply comes back as that. HEAD is answered where GET is.',
].join(' ');

/**
 * OpenAPI 3.1 of all that the transcoder serves for these services. The same protos give the same document.
 * @throws Error where a service is unknown, or two RPCs have one operationId
 */
export function openApiDocument(options: DocumentOptions): JsonObject {
  const { registry } = options;
  const services = options.services.map((name) => {
    const service = registry.getService(name);
    if (!service) throw new Error(`the registry holds no service ${name}`);
    return service;
  });
  const schemas = new Schemas(registry);
  const errors = new ErrorReplies(registry, options.reasons, options.errorShape ?? 'reason');
  const access = options.access ?? OPEN_ACCESS;
  const schemes = new Set<string>();
  const operations = new Operations(schemas, errors, {
    ...access,
    securityOf: (role) => {
      const alternatives = access.securityOf(role);
      for (const name of alternatives.flatMap((a) => Object.keys(a))) schemes.add(name);
      return alternatives;
    },
  });

  const served = services.filter((s) => s.methods.some((m) => httpRulesOf(m).length > 0));
  for (const method of served.flatMap((s) => s.methods)) {
    if (httpRulesOf(method).length > 0) schemas.add(method.input, method.output);
  }
  const paths = pathsOf(
    served.flatMap((s) => s.methods),
    operations,
  );
  const components: Record<string, JsonObject> = {
    schemas: { Error: errors.schema as JsonObject, ...(schemas.components as JsonObject) },
    responses: errors.components as JsonObject,
    parameters: { [ENVELOPE]: ENVELOPE_PARAMETER as JsonObject },
    securitySchemes: Object.fromEntries(
      Object.entries(access.schemes).filter(([name]) => schemes.has(name)),
    ) as JsonObject,
  };
  return {
    openapi: '3.1.1',
    info: {
      title: options.title,
      version: options.version,
      description: `${INFO}\n\n${HEADERS}`,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: served.map(tagOf) as JsonObject[],
    paths,
    components,
  };
}

/** The document as text. Two runs give the same bytes. */
export function toYaml(document: JsonObject): string {
  return stringify(document, { lineWidth: 120, aliasDuplicateObjects: false, blockQuote: 'literal' });
}

const ENVELOPE_PARAMETER: Schema = {
  name: 'X-Kaimai-Envelope',
  in: 'header',
  description: '`1` wraps the reply as `{"code":0,"message":"ok","data":…}`; `0` refuses that where it is the default.',
  schema: { type: 'string', enum: ['0', '1'] },
};

function pathsOf(methods: readonly DescMethod[], operations: Operations): JsonObject {
  const items = new Map<string, { readonly path: string; readonly item: Record<string, Schema> }>();
  const names = new Map<string, readonly string[]>();
  const ids = new Set<string>();
  for (const method of methods) {
    for (const [index, rule] of httpRulesOf(method).entries()) {
      const { shape } = openApiPath(rule.path);
      const path = openApiPath(rule.path, names.get(shape));
      names.set(
        shape,
        path.parameters.map((p) => p.name),
      );
      const known = items.get(shape) ?? { path: path.path, item: {} };
      items.set(shape, known);
      const operation = operations.of({ method, rule, path, index });
      const id = String(operation.operationId);
      if (ids.has(id)) throw new Error(`two RPCs are called ${id}`);
      ids.add(id);
      if (METHODS.has(rule.httpMethod)) {
        known.item[rule.httpMethod.toLowerCase()] = operation;
      } else {
        // OpenAPI 3.1 has no other methods; 3.2 calls this field additionalOperations.
        known.item['x-additionalOperations'] = {
          ...known.item['x-additionalOperations'],
          [rule.httpMethod]: operation,
        };
      }
    }
  }
  return Object.fromEntries([...items.values()].map(({ path, item }) => [path, item as JsonObject]));
}

function tagOf(service: DescService): Schema {
  return describe({ name: service.typeName }, commentOf(service) || commentOf(service.file));
}
