import type { DescMethod, FileRegistry } from '@bufbuild/protobuf';
import { type Enveloper, type OwnEnvelopes, ownEnvelope, wrap } from './envelope.js';
import { httpRulesOf } from './http-rule.js';
import { JsonToWire } from './json-to-wire.js';
import type { Offer } from './negotiation.js';
import { parsePathTemplate } from './path-template.js';
import { RequestBinder } from './request-binder.js';
import { Router } from './router.js';
import type { RouteInfo } from './types.js';
import { type MessageReader, WireToJson } from './wire-to-json.js';
import { WireWriter } from './wire-writer.js';

/** Everything that a request for one binding of an RPC needs, compiled at boot. */
export interface Route {
  readonly method: DescMethod;
  readonly operation: string;
  readonly httpMethod: string;
  readonly path: string;
  readonly binder: RequestBinder;
  readonly isStream: boolean;
  /** `POST /package.Service/Method`, which Connect clients call. */
  readonly isProcedure: boolean;
  readonly offer: Offer;
  /** JSON of the reply message, or of its `response_body`. */
  readonly reply: MessageReader;
  /** Extracts the google.api.HttpBody of the reply; undefined if the reply is none. */
  readonly httpBody: ((message: Uint8Array) => Uint8Array) | undefined;
  readonly envelope: Enveloper;
}

export interface RouteOptions {
  readonly registry: FileRegistry;
  readonly services: readonly string[];
  readonly strictQuery: boolean;
  readonly strictBody: boolean;
  readonly fullyDecodeReservedExpansion: boolean;
  readonly maxJsonDepth: number;
  readonly maxQueryParameters: number;
  /** Whether every unary RPC is also served as `POST /package.Service/Method`. */
  readonly procedures: boolean;
  readonly ownEnvelopes: OwnEnvelopes;
}

export interface RouteTable {
  readonly router: Router<Route>;
  readonly routes: readonly RouteInfo[];
  readonly codec: WireToJson;
}

const HTTP_BODY = 'google.api.HttpBody';

/**
 * Compiles the `google.api.http` rules of the services. RPCs without a rule have no such route.
 * @throws Error if a service is unknown, a rule does not fit its messages, or two routes match the same requests
 */
export function compileRoutes(options: RouteOptions): RouteTable {
  const router = new Router<Route>(options.fullyDecodeReservedExpansion);
  const routes: RouteInfo[] = [];
  const toJson = new WireToJson(options.registry);
  const binderOptions = {
    codec: new JsonToWire(options.registry, options.strictBody),
    writer: new WireWriter(),
    strictQuery: options.strictQuery,
    maxJsonDepth: options.maxJsonDepth,
    maxQueryParameters: options.maxQueryParameters,
  };
  for (const name of options.services) {
    const service = options.registry.getService(name);
    if (service === undefined) throw new Error(`the registry has no service ${name}`);
    for (const method of service.methods) {
      const operation = `/${name}/${method.name}`;
      const rules = httpRulesOf(method).map((rule) => ({ ...rule, isProcedure: false }));
      const isBound = rules.some((rule) => rule.httpMethod === 'POST' && rule.path === operation);
      if (options.procedures && method.methodKind === 'unary' && !isBound) {
        rules.push({ httpMethod: 'POST', path: operation, body: '*', responseBody: '', isProcedure: true });
      }
      for (const rule of rules) {
        if (method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming') {
          throw new Error(`${operation}: a client stream cannot have an http rule`);
        }
        try {
          const template = parsePathTemplate(rule.path);
          const binder = new RequestBinder(method.input, rule, template.variables, binderOptions);
          const reply = replyOf(method, rule.responseBody, toJson);
          const success = rule.responseBody === '' ? options.ownEnvelopes[method.output.typeName] : undefined;
          const isStream = method.methodKind === 'server_streaming';
          router.add(
            rule.httpMethod,
            template,
            {
              method,
              operation,
              httpMethod: rule.httpMethod,
              path: rule.path,
              binder,
              isStream,
              isProcedure: rule.isProcedure,
              offer: isStream ? 'stream' : rule.responseBody === '' ? 'unary' : 'json',
              envelope: success === undefined ? wrap : ownEnvelope(method.output, success),
              ...reply,
            },
            operation,
          );
        } catch (err) {
          throw new Error(`${operation}: ${(err as Error).message}`, { cause: err });
        }
        routes.push({ httpMethod: rule.httpMethod, path: rule.path, operation });
      }
    }
  }
  return { router, routes, codec: toJson };
}

function replyOf(method: DescMethod, responseBody: string, codec: WireToJson): Pick<Route, 'reply' | 'httpBody'> {
  const { output } = method;
  if (responseBody === '') {
    const httpBody = output.typeName === HTTP_BODY ? (message: Uint8Array) => message : undefined;
    return { reply: codec.message(output), httpBody };
  }
  const field = output.fields.find((candidate) => candidate.name === responseBody);
  if (field === undefined) throw new Error(`response_body: ${output.typeName} has no field ${responseBody}`);
  const isHttpBody = field.fieldKind === 'message' && field.message.typeName === HTTP_BODY;
  return {
    reply: codec.fieldOnly(field),
    httpBody: isHttpBody ? (message) => codec.fieldBytes(message, field.number) : undefined,
  };
}
