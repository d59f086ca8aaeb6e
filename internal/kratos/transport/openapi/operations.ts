import type { DescField, DescMessage, DescMethod } from '@bufbuild/protobuf';
import type { HttpRule } from '../transcoder/http-rule.js';
import type { AccessRules } from './access-rules.js';
import { commentOf } from './comments.js';
import { ERROR_REF, type ErrorReplies } from './errors.js';
import type { OpenApiPath, PathParameter } from './paths.js';
import { describe, type Schema } from './schema.js';
import type { Schemas } from './schemas.js';

export const ENVELOPE = 'Envelope';

const HTTP_BODY = 'google.api.HttpBody';

/** Proto messages with a text form that fits in one query parameter. */
const TEXT_MESSAGES =
  /^google\.protobuf\.(Timestamp|Duration|FieldMask|Struct|Value|ListValue|(Double|Float|U?Int64|U?Int32|Bool|String|Bytes)Value)$/;
const JSON_MESSAGES = /^google\.protobuf\.(Struct|Value|ListValue)$/;

export interface Binding {
  readonly method: DescMethod;
  readonly rule: HttpRule;
  readonly path: OpenApiPath;
  /** 0 for the rule itself, from 1 for its additional bindings. */
  readonly index: number;
}

/** The Operation Object of one binding of an RPC: what the transcoder accepts and returns for it. */
export class Operations {
  constructor(
    private readonly schemas: Schemas,
    private readonly errors: ErrorReplies,
    private readonly access: AccessRules,
    private readonly processOf: ((service: string) => string) | undefined,
  ) {}

  of({ method, rule, path, index }: Binding): Schema {
    const comment = commentOf(method);
    const role = this.access.roleOf(method);
    const security = this.access.securityOf(role);
    const hasBody = rule.body !== '';
    const bound = path.parameters.flatMap((p) => (p.variable ? [fieldsAt(method.input, p.variable.fieldPath)] : []));
    const parameters = [
      ...path.parameters.map((p) => this.pathParameter(p, method.input)),
      ...(rule.body === '*' ? [] : this.queryParameters(method.input, rule, bound)),
      ...(takesEnvelope(method, rule) ? [{ $ref: `#/components/parameters/${ENVELOPE}` }] : []),
    ];
    return {
      operationId: `${method.parent.name}_${method.name}${index === 0 ? '' : `_${index + 1}`}`,
      tags: [method.parent.typeName],
      summary: summaryOf(method, comment),
      ...(comment === '' ? {} : { description: comment }),
      ...(method.proto.options?.deprecated ? { deprecated: true } : {}),
      ...(parameters.length === 0 ? {} : { parameters }),
      ...(hasBody ? { requestBody: this.requestBody(method.input, rule, bound) } : {}),
      responses: {
        200: this.reply(method, rule),
        ...this.errors.repliesOf(method, hasBody, security.length === 0),
      },
      security: [...security],
      'x-role': role,
      'x-rpc': `/${method.parent.typeName}/${method.name}`,
      ...(this.processOf && { 'x-process': this.processOf(method.parent.typeName) }),
    };
  }

  private pathParameter(parameter: PathParameter, input: DescMessage): Schema {
    const { name, variable, index, rest } = parameter;
    const field = variable && fieldsAt(input, variable.fieldPath).at(-1);
    const { description, ...schema } = field && index === 0 ? this.text(field) : { type: 'string' };
    const notes = [description, rest ? 'Any number of segments, separated by `/`.' : undefined];
    const text = notes.filter((note) => note !== undefined).join('\n\n');
    return {
      name,
      in: 'path',
      required: true,
      ...(text === '' ? {} : { description: text }),
      schema,
    };
  }

  private queryParameters(input: DescMessage, rule: HttpRule, bound: readonly (readonly DescField[])[]): Schema[] {
    const parameters: Schema[] = [];
    const visit = (message: DescMessage, above: readonly DescField[], around: readonly DescMessage[]): void => {
      for (const field of message.fields) {
        const place = [...above, field];
        if (above.length === 0 && field.name === rule.body) continue;
        if (bound.some((path) => path.length === place.length && path.every((f, i) => f === place[i]))) continue;
        if (field.fieldKind === 'message' && !TEXT_MESSAGES.test(field.message.typeName)) {
          // A message may contain itself, so the list ends there; deeper fields are accepted nevertheless.
          if (!around.includes(field.message) && !field.message.typeName.startsWith('google.')) {
            visit(field.message, place, [...around, field.message]);
          }
          continue;
        }
        if (field.fieldKind !== 'message' && field.message && !TEXT_MESSAGES.test(field.message.typeName)) continue;
        parameters.push(this.queryParameter(place));
      }
    };
    visit(input, [], [input]);
    return parameters;
  }

  private queryParameter(place: readonly DescField[]): Schema {
    const field = place.at(-1) as DescField;
    const { description, ...schema } = this.text(field);
    const [top] = place;
    const required = place.length === 1 && top !== undefined && this.schemas.rules.requiredIn(top.parent).has(top);
    const others = field.oneof?.fields.filter((f) => f !== field).map((f) => `\`${f.jsonName}\``) ?? [];
    const notes = [description, others.length === 0 ? undefined : `Not together with ${others.join(', ')}.`];
    const text = notes.filter((note) => note !== undefined).join('\n\n');
    return {
      name: place.map((f) => f.jsonName).join('.'),
      in: 'query',
      ...(required ? { required } : {}),
      ...(text === '' ? {} : { description: text }),
      ...(field.fieldKind === 'map' ? { style: 'deepObject', explode: true } : {}),
      schema,
    };
  }

  /** The schema of a field in a path or query. */
  private text(field: DescField): Schema {
    const schema = this.schemas.field(field);
    if (field.message && field.fieldKind === 'message' && JSON_MESSAGES.test(field.message.typeName)) {
      return describe({ type: 'string', contentMediaType: 'application/json' }, commentOf(field));
    }
    return Array.isArray(schema.type) ? { ...schema, type: schema.type.find((t) => t !== 'null') ?? 'string' } : schema;
  }

  private requestBody(input: DescMessage, rule: HttpRule, bound: readonly (readonly DescField[])[]): Schema {
    const field = rule.body === '*' ? undefined : input.fields.find((f) => f.name === rule.body);
    const message = field ? (field.fieldKind === 'message' ? field.message : undefined) : input;
    if (message?.typeName === HTTP_BODY) {
      return { required: true, content: { '*/*': { schema: { type: 'string', format: 'binary' } } } };
    }
    const top = new Set(bound.flatMap((path) => (path.length === 1 ? path : [])));
    const schema = field ? this.schemas.field(field) : this.schemas.bodyWithout(input, top);
    const asked = this.schemas.rules.requiredIn(input);
    const required = field ? asked.has(field) : input.fields.some((f) => asked.has(f) && !top.has(f));
    return {
      required,
      // application/x-protobuf is only mentioned in the document's description: as a content type without a schema it
      // would
      // turn the types of generated clients into `unknown`.
      content: { 'application/json': { schema } },
    };
  }

  private reply(method: DescMethod, rule: HttpRule): Schema {
    const { output } = method;
    const field = rule.responseBody === '' ? undefined : output.fields.find((f) => f.name === rule.responseBody);
    const message = field ? (field.fieldKind === 'message' ? field.message : undefined) : output;
    const streams = method.methodKind === 'server_streaming';
    if (message?.typeName === HTTP_BODY) {
      return {
        description: 'The content, of the type in its `Content-Type`.',
        content: { '*/*': { schema: { type: 'string', format: 'binary' } } },
      };
    }
    const schema = field ? this.schemas.field(field) : this.schemas.message(output);
    if (!streams) {
      return {
        description: `${field ? `${field.jsonName} of ` : ''}${output.typeName}`,
        content: { 'application/json': { schema } },
      };
    }
    const line: Schema = {
      description: 'One line.',
      oneOf: [
        { type: 'object', properties: { result: schema }, required: ['result'] },
        { type: 'object', properties: { error: ERROR_REF }, required: ['error'] },
      ],
    };
    return {
      description: [
        `A stream of ${output.typeName}: one JSON object per line, \`{"result":…}\`, or \`{"error":…}\` as the last one.`,
        'With `Accept: text/event-stream` each line is the `data` of a Server-Sent Event; `event: error` or `event: end` ends the stream.',
      ].join(' '),
      content: {
        'application/json': { schema: line },
        'application/x-ndjson': { schema: line },
        'text/event-stream': { schema: { type: 'string' } },
      },
    };
  }
}

/** Whether the reply is a single JSON value. */
function takesEnvelope(method: DescMethod, rule: HttpRule): boolean {
  if (method.methodKind === 'server_streaming') return false;
  const field = method.output.fields.find((f) => f.name === rule.responseBody);
  return (field ? field.message?.typeName : method.output.typeName) !== HTTP_BODY;
}

/** The fields on the way to a field, outermost first. The router has checked that they exist. */
function fieldsAt(message: DescMessage, names: readonly string[]): DescField[] {
  const fields: DescField[] = [];
  let within: DescMessage | undefined = message;
  for (const name of names) {
    const field: DescField | undefined = within?.fields.find((f) => f.name === name);
    if (!field) throw new Error(`${message.typeName} has no field ${names.join('.')}`);
    fields.push(field);
    within = field.message;
  }
  return fields;
}

/** The first sentence of the comment if it is short enough for a heading, otherwise the RPC's name in words. */
function summaryOf(method: DescMethod, comment: string): string {
  const sentence = /^[^\n]*?[.!?](?=\s|$)/.exec(comment)?.[0].slice(0, -1);
  if (sentence !== undefined && sentence.length <= 80) return sentence;
  const words = method.name.replace(/([a-z0-9])([A-Z])/g, '$1 $2').toLowerCase();
  return `${words[0]?.toUpperCase()}${words.slice(1)}`;
}
