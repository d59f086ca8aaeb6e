import type { DescMethod, DescService, FileRegistry, JsonObject } from '@bufbuild/protobuf';
import { stringify } from 'yaml';
import { Role } from '../../../../gen/auth/v1/auth.js';
import { httpRulesOf } from '../transcoder/http-rule.js';
import type { ErrorShape } from '../transcoder/types.js';
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
  /** How callers say who they are; both ways where it is not settled. */
  readonly auth?: 'header' | 'jwt';
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

const SCHEMES: Readonly<Record<string, Schema>> = {
  userId: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-id',
    description:
      'The user that a trusted caller acts for: a UUID or an int64. Believed with `x-bff-token` where one is configured.',
  },
  userRole: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-role',
    description: '`ADMIN` for an operator, from a trusted caller.',
  },
  bffToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-bff-token',
    description: 'The shared secret of the trusted caller.',
  },
  bearer: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'The claim `sub` is the user; `"role": "ADMIN"` makes an operator.',
  },
  internalToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-internal-token',
    description: 'The shared secret of the services of the system.',
  },
};

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
  const errors = new ErrorReplies(registry, options.errorShape ?? 'reason');
  const schemes = new Set<string>();
  const operations = new Operations(registry, schemas, errors, (role) => {
    const alternatives = securityOf(role, options.auth);
    for (const name of alternatives.flatMap((a) => Object.keys(a))) schemes.add(name);
    return alternatives;
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
    securitySchemes: Object.fromEntries(Object.entries(SCHEMES).filter(([name]) => schemes.has(name))) as JsonObject,
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

/** Each alternative is enough. */
function securityOf(role: Role, auth: DocumentOptions['auth']): Schema[] {
  const bearer = auth === 'header' ? [] : [{ bearer: [] }];
  const told = (name: string) => (auth === 'jwt' ? [] : [{ [name]: [] }, { [name]: [], bffToken: [] }]);
  switch (role) {
    case Role.PUBLIC:
      return [];
    case Role.USER:
      return [...told('userId'), ...bearer, { internalToken: [], userId: [] }];
    case Role.ADMIN:
      return [...told('userRole'), ...bearer];
    default:
      return [{ internalToken: [] }];
  }
}
