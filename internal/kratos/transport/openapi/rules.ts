import { create, type DescField, type DescMessage, getOption, type Registry, toJson } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import { describe, type Schema } from './schema.js';

/** buf.validate.FieldRules in proto JSON: only fields that are set, int64 as strings. */
interface FieldRules {
  readonly required?: boolean;
  readonly ignore?: string;
  readonly cel?: readonly { readonly message?: string }[];
  readonly int32?: Bounds;
  readonly int64?: Bounds;
  readonly double?: Bounds;
  readonly string?: Record<string, string | boolean | readonly string[]>;
  readonly bytes?: { readonly minLen?: string; readonly maxLen?: string };
  readonly enum?: { readonly const?: number; readonly in?: readonly number[]; readonly notIn?: readonly number[] };
  readonly repeated?: {
    readonly minItems?: string;
    readonly maxItems?: string;
    readonly unique?: boolean;
    readonly items?: FieldRules;
  };
  readonly map?: {
    readonly minPairs?: string;
    readonly maxPairs?: string;
    readonly keys?: FieldRules;
    readonly values?: FieldRules;
  };
  readonly duration?: Bounds;
  readonly timestamp?: Bounds & { readonly ltNow?: boolean; readonly gtNow?: boolean };
}

type Bound = number | string;

interface Bounds {
  readonly const?: Bound;
  readonly lt?: Bound;
  readonly lte?: Bound;
  readonly gt?: Bound;
  readonly gte?: Bound;
  readonly in?: readonly Bound[];
  readonly notIn?: readonly Bound[];
  /** Values to show; not a rule. */
  readonly example?: readonly Bound[];
}

/** Translates the buf.validate rules of the protos to JSON Schema. */
export class Rules {
  private readonly validator: ReturnType<typeof createValidator>;
  private readonly required = new Map<DescMessage, ReadonlySet<DescField>>();

  constructor(private readonly registry: Registry) {
    this.validator = createValidator({ registry });
  }

  of(field: DescField): FieldRules {
    return this.option('field', field) as FieldRules;
  }

  /** The messages of the rules that apply to a message as a whole. */
  messageNotes(message: DescMessage): string[] {
    const { cel = [] } = this.option('message', message) as { cel?: { message?: string }[] };
    return cel.map((rule) => sentence(rule.message ?? '')).filter((text) => text !== '');
  }

  /** Fields that a request must set: those that an empty message is rejected for. */
  requiredIn(message: DescMessage): ReadonlySet<DescField> {
    const known = this.required.get(message);
    if (known) return known;
    const result = this.validator.validate(message, create(message));
    if (result.kind === 'error') throw result.error;
    const fields = new Set<DescField>();
    for (const violation of result.violations ?? []) {
      const [first] = violation.field;
      if (first?.kind === 'field' && violation.field.length === 1) fields.add(first);
    }
    this.required.set(message, fields);
    return fields;
  }

  private option(name: 'field' | 'message', desc: DescField | DescMessage): unknown {
    const extension = this.registry.getExtension(`buf.validate.${name}`);
    if (!extension?.message) return {};
    const value = getOption(desc as DescField, extension) as Parameters<typeof toJson>[1];
    return toJson(extension.message, value, { registry: this.registry });
  }
}

/** The schema of a singular value, an item or a map value, narrowed by its rules. */
export function narrow(schema: Schema, field: DescField, rules: FieldRules): Schema {
  const examples = (rules.string?.example ?? rules.int64?.example ?? rules.int32?.example) as Bound[] | undefined;
  return { ...narrowByRules(schema, field, rules), ...set('examples', examples) };
}

function narrowByRules(schema: Schema, field: DescField, rules: FieldRules): Schema {
  if (rules.ignore === 'IGNORE_ALWAYS') return schema;
  const narrowed = narrowByType(schema, field, rules);
  const noted = describe(narrowed, ...(rules.cel ?? []).map((rule) => sentence(rule.message ?? '')));
  if (rules.ignore !== 'IGNORE_IF_ZERO_VALUE' || noted === schema) return noted;
  const { type, format, description, ...constraints } = noted;
  if (type !== 'string' && type !== 'integer' && type !== 'number') return noted;
  const zero = type !== 'string' ? 0 : format === 'int64' || format === 'uint64' ? '0' : '';
  return describe(
    { type, ...(format === undefined ? {} : { format }), anyOf: [{ const: zero }, constraints] },
    description as string | undefined,
  );
}

function narrowByType(schema: Schema, field: DescField, rules: FieldRules): Schema {
  if (rules.string) return { ...schema, ...stringKeywords(rules.string) };
  if (rules.int32) return { ...schema, ...numberKeywords(rules.int32) };
  if (rules.int64) return int64(schema, rules.int64);
  if (rules.double) {
    // Bounds on both sides exclude NaN and Infinity.
    const { lt, lte, gt, gte } = rules.double;
    const closed = (lt ?? lte) !== undefined && (gt ?? gte) !== undefined;
    return { ...(closed ? { type: 'number', format: 'double' } : schema), ...numberKeywords(rules.double) };
  }
  if (rules.enum && field.enum) {
    const { const: only, in: some = only === undefined ? undefined : [only], notIn = [] } = rules.enum;
    if (some === undefined && notIn.length === 0) return schema;
    const values = field.enum.values.filter((v) => (some?.includes(v.number) ?? true) && !notIn.includes(v.number));
    return { ...schema, enum: values.map((v) => v.name) };
  }
  if (rules.duration) return describe(schema, boundsText(rules.duration));
  if (rules.timestamp) {
    const { ltNow, gtNow } = rules.timestamp;
    const now = ltNow ? 'In the past.' : gtNow ? 'In the future.' : undefined;
    return describe(schema, boundsText(rules.timestamp), now);
  }
  if (rules.bytes) {
    const { minLen, maxLen } = rules.bytes;
    return describe(schema, boundsText({ ...set('gte', minLen), ...set('lte', maxLen) }, ' bytes'));
  }
  return schema;
}

function stringKeywords(rules: NonNullable<FieldRules['string']>): Schema {
  const len = rules.len;
  const notes: string[] = [];
  const keywords: Record<string, Schema[string]> = {
    ...set('const', rules.const as string | undefined),
    ...set('minLength', numeric(rules.minLen ?? len)),
    ...set('maxLength', numeric(rules.maxLen ?? len)),
    ...set('enum', rules.in as string[] | undefined),
  };
  if (rules.notIn) keywords.not = { enum: rules.notIn as string[] };
  if (rules.minBytes) notes.push(`At least ${rules.minBytes} bytes of UTF-8.`);
  if (rules.maxBytes) notes.push(`At most ${rules.maxBytes} bytes of UTF-8.`);
  const patterns = [rules.pattern as string | undefined, prefixPattern(rules.prefix as string | undefined)];
  const [pattern, other] = patterns.filter((p) => p !== undefined);
  if (pattern !== undefined) {
    if (isEcmaPattern(pattern)) keywords.pattern = pattern;
    else notes.push(`Matches \`${pattern}\` (RE2).`);
  }
  if (other !== undefined) keywords.allOf = [{ pattern: other }];
  for (const format of ['email', 'hostname', 'uri', 'uuid']) if (rules[format]) keywords.format = format;
  return notes.length === 0 ? keywords : describe(keywords, ...notes);
}

function prefixPattern(prefix: string | undefined): string | undefined {
  return prefix === undefined ? undefined : `^${prefix.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}`;
}

/** RE2 and ECMA-262 agree on most patterns; a pattern that is invalid in ECMA-262 is given as text instead. */
function isEcmaPattern(pattern: string): boolean {
  try {
    new RegExp(pattern, 'u');
    return true;
  } catch {
    return false;
  }
}

function numberKeywords(bounds: Bounds): Schema {
  return {
    ...set('const', bounds.const),
    ...set('minimum', bounds.gte),
    ...set('exclusiveMinimum', bounds.gt),
    ...set('maximum', bounds.lte),
    ...set('exclusiveMaximum', bounds.lt),
    ...set('enum', bounds.in as Bound[] | undefined),
    ...(bounds.notIn ? { not: { enum: bounds.notIn as Bound[] } } : {}),
  };
}

/** JSON Schema has no bounds for numbers in strings: the sign becomes part of the pattern, the rest becomes text. */
function int64(schema: Schema, bounds: Bounds): Schema {
  if (bounds.const !== undefined) return { ...schema, const: bounds.const };
  if (bounds.in) return { ...schema, enum: bounds.in as Bound[] };
  const positive = Number(bounds.gt ?? -1) >= 0 || Number(bounds.gte ?? 0) > 0;
  const natural = positive || bounds.gte !== undefined || Number(bounds.gt ?? -2) === -1;
  const pattern = positive
    ? '^[1-9][0-9]{0,18}$'
    : natural && Number(bounds.gte ?? 0) >= 0
      ? '^[0-9]{1,19}$'
      : undefined;
  return describe(
    { ...schema, ...set('pattern', pattern), ...(bounds.notIn ? { not: { enum: bounds.notIn as Bound[] } } : {}) },
    boundsText(bounds),
  );
}

function boundsText({ gt, gte, lt, lte }: Bounds, unit = ''): string | undefined {
  const parts = [
    gt === undefined ? undefined : `greater than ${gt}${unit}`,
    gte === undefined ? undefined : `at least ${gte}${unit}`,
    lt === undefined ? undefined : `less than ${lt}${unit}`,
    lte === undefined ? undefined : `at most ${lte}${unit}`,
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? undefined : sentence(parts.join(', '));
}

/** Keywords for the size of a list or map. */
export function sizeKeywords({ repeated, map }: FieldRules): Schema {
  return {
    ...set('minItems', numeric(repeated?.minItems)),
    ...set('maxItems', numeric(repeated?.maxItems)),
    ...set('uniqueItems', repeated?.unique),
    ...set('minProperties', numeric(map?.minPairs)),
    ...set('maxProperties', numeric(map?.maxPairs)),
  };
}

function set(keyword: string, value: Schema[string] | undefined): Schema {
  return value === undefined ? {} : { [keyword]: value };
}

function numeric(text: unknown): number | undefined {
  return text === undefined ? undefined : Number(text);
}

function sentence(text: string): string {
  if (text === '') return '';
  return `${text[0]?.toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}
