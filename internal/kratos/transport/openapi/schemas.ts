import { type DescEnum, type DescField, type DescMessage, type Registry, ScalarType } from '@bufbuild/protobuf';
import { FeatureSet_FieldPresence } from '@bufbuild/protobuf/wkt';
import { commentOf } from './comments.js';
import { narrow, Rules, sizeKeywords } from './rules.js';
import { describe, type Schema } from './schema.js';

const DURATION = '^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$';

const WELL_KNOWN: Readonly<Record<string, Schema>> = {
  'google.protobuf.Timestamp': { type: 'string', format: 'date-time' },
  'google.protobuf.Duration': { type: 'string', pattern: DURATION, description: 'Seconds, such as `1.5s`.' },
  'google.protobuf.FieldMask': { type: 'string', description: 'Field paths, such as `name,priceFen`.' },
  'google.protobuf.Struct': { type: 'object', additionalProperties: true },
  'google.protobuf.Value': {},
  'google.protobuf.ListValue': { type: 'array', items: {} },
  'google.protobuf.Empty': { type: 'object', additionalProperties: false },
  'google.protobuf.Any': {
    type: 'object',
    properties: { '@type': { type: 'string', examples: ['type.googleapis.com/google.rpc.ErrorInfo'] } },
    required: ['@type'],
    additionalProperties: true,
  },
  'google.api.HttpBody': { type: 'string', format: 'binary' },
};

const WRAPPERS = /^google\.protobuf\.(Double|Float|U?Int64|U?Int32|Bool|String|Bytes)Value$/;

/**
 * Schemas of messages and enums in proto3 JSON. A message becomes a component with its proto name when it is first
 * referenced. `required` lists the fields that requests must set; for messages that only occur in replies, the fields
 * that
 * are always present.
 */
export class Schemas {
  readonly rules: Rules;
  private readonly named = new Map<string, Schema>();
  private readonly inRequests = new Set<DescMessage>();
  private readonly inReplies = new Set<DescMessage>();
  private readonly bodies = new Map<string, string>();

  constructor(registry: Registry) {
    this.rules = new Rules(registry);
  }

  /** Registers a request and a reply. Call it for all of them before the first schema is created. */
  add(request: DescMessage, reply: DescMessage): void {
    reach(request, this.inRequests);
    reach(reply, this.inReplies);
  }

  /** Sorted by name. */
  get components(): Record<string, Schema> {
    return Object.fromEntries([...this.named].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  message(desc: DescMessage): Schema {
    const known = WELL_KNOWN[desc.typeName];
    if (known) return known;
    if (WRAPPERS.test(desc.typeName)) {
      const value = scalar(desc.fields[0]?.scalar ?? ScalarType.STRING);
      return typeof value.type === 'string' ? { ...value, type: [value.type, 'null'] } : nullable(value);
    }
    if (!this.named.has(desc.typeName)) {
      // Registered before its fields are visited, because a message may contain itself.
      this.named.set(desc.typeName, {});
      this.named.set(desc.typeName, this.object(desc, desc.fields));
    }
    return { $ref: `#/components/schemas/${desc.typeName}` };
  }

  /** The body of a request whose fields `bound` are in the path. */
  bodyWithout(desc: DescMessage, bound: ReadonlySet<DescField>): Schema {
    const left = desc.fields.filter((field) => !bound.has(field));
    if (left.length === desc.fields.length || WELL_KNOWN[desc.typeName]) return this.message(desc);
    if (left.length === 0) return { type: 'object' };
    const key = [desc.typeName, ...left.map((field) => field.name)].join();
    let name = this.bodies.get(key);
    if (name === undefined) {
      const others = [...this.bodies.values()].filter((n) => n.startsWith(`${desc.typeName}.Body`)).length;
      name = `${desc.typeName}.Body${others === 0 ? '' : others + 1}`;
      this.bodies.set(key, name);
      this.named.set(name, this.object(desc, left));
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  /** The schema of a field, with its comment and rules. */
  field(field: DescField): Schema {
    const rules = this.rules.of(field);
    const comment = commentOf(field);
    const deprecated = field.proto.options?.deprecated ? { deprecated: true } : {};
    switch (field.fieldKind) {
      case 'list': {
        const items = narrow(this.value(field), field, rules.repeated?.items ?? {});
        return describe({ type: 'array', items, ...sizeKeywords(rules), ...deprecated }, comment);
      }
      case 'map': {
        const additionalProperties = narrow(this.value(field), field, rules.map?.values ?? {});
        const keys = narrow(keySchema(field.mapKey), field, rules.map?.keys ?? {});
        const propertyNames = Object.keys(keys).some((k) => k !== 'type') ? { propertyNames: keys } : {};
        return describe(
          { type: 'object', additionalProperties, ...propertyNames, ...sizeKeywords(rules), ...deprecated },
          comment,
        );
      }
      default: {
        const { description, ...value } = narrow(this.value(field), field, rules);
        return describe({ ...value, ...deprecated }, comment, description as string | undefined);
      }
    }
  }

  enum(desc: DescEnum): Schema {
    if (desc.typeName === 'google.protobuf.NullValue') return { type: 'null' };
    if (!this.named.has(desc.typeName)) {
      const values = desc.values.map((v) => ({ name: v.name, comment: commentOf(v) }));
      const list = values.filter((v) => v.comment !== '').map((v) => `- \`${v.name}\`: ${v.comment}`);
      const schema = { type: 'string', enum: values.map((v) => v.name) };
      this.named.set(desc.typeName, describe(schema, commentOf(desc), list.join('\n')));
    }
    return { $ref: `#/components/schemas/${desc.typeName}` };
  }

  /** The schema of one value: the field itself, a list item, or a map value. */
  private value(field: DescField): Schema {
    if (field.message) return this.message(field.message);
    return field.enum ? this.enum(field.enum) : scalar(field.scalar ?? ScalarType.STRING);
  }

  private object(desc: DescMessage, fields: readonly DescField[]): Schema {
    const inReplies = this.inReplies.has(desc);
    const asked = this.inRequests.has(desc) ? this.rules.requiredIn(desc) : undefined;
    const required = fields.filter((field) => (asked ? asked.has(field) : !mayBeLeftOut(field))).map((f) => f.jsonName);
    const properties = fields.map((field): [string, Schema] => {
      const schema = this.field(field);
      return [field.jsonName, inReplies && isNullInReplies(field) ? nullable(schema) : schema];
    });
    const exclusions = desc.oneofs.flatMap((oneof) =>
      pairs(oneof.fields.filter((f) => fields.includes(f)).map((f) => f.jsonName)),
    );
    return describe(
      {
        type: 'object',
        ...(properties.length === 0 ? {} : { properties: Object.fromEntries(properties) }),
        ...(required.length === 0 ? {} : { required }),
        ...(exclusions.length === 0 ? {} : { allOf: exclusions.map((pair) => ({ not: { required: pair } })) }),
      },
      commentOf(desc),
      ...this.rules.messageNotes(desc),
    );
  }
}

function reach(message: DescMessage, into: Set<DescMessage>): void {
  if (into.has(message)) return;
  into.add(message);
  for (const field of message.fields) if (field.message) reach(field.message, into);
}

/** Unset oneof members and `optional` scalars are omitted in replies, and so is an absent google.protobuf.Value. */
function mayBeLeftOut(field: DescField): boolean {
  if (field.oneof) return true;
  if (field.fieldKind === 'message') return field.message.typeName === 'google.protobuf.Value';
  return (
    (field.fieldKind === 'scalar' || field.fieldKind === 'enum') && field.presence !== FeatureSet_FieldPresence.IMPLICIT
  );
}

function isNullInReplies(field: DescField): boolean {
  return field.fieldKind === 'message' && !field.oneof && field.message.typeName !== 'google.protobuf.Value';
}

function nullable(schema: Schema): Schema {
  const { description, deprecated, ...rest } = schema;
  if (Array.isArray(rest.type) && rest.type.includes('null')) return schema;
  const others = { ...(deprecated === undefined ? {} : { deprecated }) };
  const value =
    typeof rest.type === 'string' ? { ...rest, type: [rest.type, 'null'] } : { anyOf: [rest, { type: 'null' }] };
  return describe({ ...value, ...others }, description as string | undefined);
}

function pairs(names: readonly string[]): string[][] {
  return names.flatMap((a, i) => names.slice(i + 1).map((b) => [a, b]));
}

const NON_FINITE = ['NaN', 'Infinity', '-Infinity'];

function scalar(type: ScalarType): Schema {
  switch (type) {
    case ScalarType.BOOL:
      return { type: 'boolean' };
    case ScalarType.STRING:
      return { type: 'string' };
    case ScalarType.BYTES:
      return { type: 'string', contentEncoding: 'base64' };
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return { type: 'integer', format: 'int32' };
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return { type: 'integer', minimum: 0, maximum: 4_294_967_295 };
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return { type: 'string', format: 'uint64', pattern: '^[0-9]{1,20}$' };
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return { type: 'string', format: 'int64', pattern: '^-?[0-9]{1,19}$' };
    case ScalarType.FLOAT:
      return { anyOf: [{ type: 'number', format: 'float' }, { enum: NON_FINITE }] };
    case ScalarType.DOUBLE:
      return { anyOf: [{ type: 'number', format: 'double' }, { enum: NON_FINITE }] };
  }
}

/** JSON keys are always strings. */
function keySchema(type: ScalarType): Schema {
  if (type === ScalarType.STRING) return { type: 'string' };
  if (type === ScalarType.BOOL) return { enum: ['true', 'false'] };
  const schema = scalar(type);
  return { pattern: schema.pattern ?? (schema.minimum === 0 ? '^[0-9]{1,10}$' : '^-?[0-9]{1,10}$') };
}
