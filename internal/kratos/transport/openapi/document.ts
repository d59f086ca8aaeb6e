import type { DescMethod, DescService, FileRegistry, JsonObject } from '@bufbuild/protobuf';
import { stringify } from 'yaml';
import type { ReasonSpec } from '../../errors/error.js';
import { DEFAULT_ENVELOPE_HEADER } from '../transcoder/envelope.js';
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
  /** Full names, in the order of the document. Services without an HTTP rule are omitted. */
  readonly services: readonly string[];
  readonly title: string;
  readonly version: string;
  /** All error reasons. Their texts are the comments of the values in the `ErrorReason` enums. */
  readonly reasons: readonly ReasonSpec[];
  /** Access rules; absent: no RPC needs credentials. */
  readonly access?: AccessRules;
  /** Default `reason`. */
  readonly errorShape?: ErrorShape;
  /** Request header that asks for the envelope. Default that of the transcoder. */
  readonly envelopeHeader?: string;
  /** Name of the process that serves a service, for a document of several processes. */
  readonly processOf?: (service: string) => string;
  /** Whether unknown fields and query parameters are rejected. Default false. */
  readonly strict?: boolean;
}

const METHODS = new Set(['GET', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD', 'TRACE']);

const UNKNOWN_REJECTED = 'Unknown fields and query parameters are rejected with 400.';
const UNKNOWN_IGNORED = 'Unknown fields and query parameters are ignored.';

const INFO = [
  [
    'JSON is proto3 JSON: names in lowerCamelCase (proto names are accepted too), int64 and uint64 as strings, enums by',
    'name, zero values included, absent messages as null. Every JSON body can also be sent and requested as',
    '`application/x-protobuf`.',
  ],
  [
    'Request headers: `Grpc-Timeout` (such as `500m` for 500 ms) sets a deadline; `X-Request-Id` and `traceparent` are',
    'propagated; `Grpc-Metadata-*` becomes gRPC metadata. Metadata of the reply is returned as `Grpc-Metadata-*`. HEAD works',
    'wherever GET does.',
  ],
  [
    'Every unary RPC is also available as `POST /package.Service/Method` with a JSON body, by the Connect protocol; see',
    '`x-rpc` of each operation.',
  ],
]
  .map((paragraph) => paragraph.join(' '))
  .join('\n\n');

/**
 * OpenAPI 3.1 of everything that the transcoder serves for these services. The same protos produce the same document.
 * @throws Error if a service or a declared reason is unknown, or if two RPCs have the same operationId
 */
export function openApiDocument(options: DocumentOptions): JsonObject {
  const { registry } = options;
  const services = options.services.map((name) => {
    const service = registry.getService(name);
    if (!service) throw new Error(`the registry has no service ${name}`);
    return service;
  });
  const schemas = new Schemas(registry);
  const errors = new ErrorReplies(registry, options.reasons, options.errorShape ?? 'reason');
  const access = options.access ?? OPEN_ACCESS;
  const schemes = new Set<string>();
  const noted: AccessRules = {
    ...access,
    securityOf: (role) => {
      const alternatives = access.securityOf(role);
      for (const name of alternatives.flatMap((a) => Object.keys(a))) schemes.add(name);
      return alternatives;
    },
  };
  const operations = new Operations(schemas, errors, noted, options.processOf);

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
    parameters: { [ENVELOPE]: envelopeParameter(options.envelopeHeader ?? DEFAULT_ENVELOPE_HEADER) as JsonObject },
    securitySchemes: Object.fromEntries(
      Object.entries(access.schemes).filter(([name]) => schemes.has(name)),
    ) as JsonObject,
  };
  return {
    openapi: '3.1.1',
    info: {
      title: options.title,
      version: options.version,
      description: [INFO, options.strict ? UNKNOWN_REJECTED : UNKNOWN_IGNORED, ...processText(served, options)].join(
        '\n\n',
      ),
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: served.map((service) => tagOf(service, options)) as JsonObject[],
    paths,
    components,
  };
}

/** The document as text, byte by byte the same in every run. */
export function toYaml(document: JsonObject): string {
  return stringify(document, { lineWidth: 120, aliasDuplicateObjects: false, blockQuote: 'literal' });
}

function envelopeParameter(name: string): Schema {
  return {
    name,
    in: 'header',
    description: '`1` wraps the reply as `{"code":0,"message":"ok","data":…}`; `0` prevents that if it is the default.',
    schema: { type: 'string', enum: ['0', '1'] },
  };
}

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
      if (ids.has(id)) throw new Error(`two RPCs have the operationId ${id}`);
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

function tagOf(service: DescService, { processOf }: DocumentOptions): Schema {
  const tag = describe({ name: service.typeName }, commentOf(service) || commentOf(service.file));
  return processOf ? { ...tag, 'x-process': processOf(service.typeName) } : tag;
}

/** Which process serves which services. */
function processText(services: readonly DescService[], { processOf }: DocumentOptions): string[] {
  if (!processOf) return [];
  const processes = [...new Set(services.map((s) => processOf(s.typeName)))].sort();
  const lines = processes.map((process) => {
    const names = services.filter((s) => processOf(s.typeName) === process).map((s) => `\`${s.typeName}\``);
    return `- \`${process}\`: ${names.join(', ')}`;
  });
  return [
    ['Each process serves the routes of its own services (`x-process` of each operation):', '', ...lines].join('\n'),
  ];
}
