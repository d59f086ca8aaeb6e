import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  type Registry,
  ScalarType,
} from '@bufbuild/protobuf';
import { pathToString, reflect } from '@bufbuild/protobuf/reflect';
import { createValidator } from '@bufbuild/protovalidate';
import { parseAllDocuments } from 'yaml';
import { ConfigError, formatViolation, type Violation } from './config-error.js';
import {
  type Environment,
  type EnvironmentRule,
  environmentOverlay,
  isSection,
  readVariable,
  Substituted,
} from './environment.js';

/** What makes a configuration of type `T` out of files. */
export interface ConfigSpec<T> {
  /** The message of the whole configuration. Its `buf.validate` rules apply. */
  readonly schema: DescMessage;
  /** Holds the schema and the extensions of buf.validate. */
  readonly registry: Registry;
  /** Proto JSON that the files are merged over. */
  readonly defaults: JsonObject;
  /** Without it, only placeholders read the environment. */
  readonly environment?: EnvironmentRule;
  /** Adds the defaults that depend on other values to proto JSON. */
  readonly addDependentDefaults?: (json: JsonObject) => void;
  /** Paths of text fields that also accept a YAML number, such as `server.workers`. */
  readonly numbersAsText?: readonly string[];
  /** Rules that involve several fields. */
  readonly check?: (config: T) => readonly Violation[];
  /**
   * Settings that the running process takes over; changes of others apply at its next start. Names of the code, such as
   * `log.level`; a trailing dot stands for the whole section.
   */
  readonly live: readonly string[];
}

type JsonSpec = Pick<ConfigSpec<unknown>, 'schema' | 'defaults' | 'numbersAsText'>;

type Tree = Map<DescField, Leaf | Tree>;
interface Leaf {
  readonly path: string;
  readonly value: unknown;
}

/** `${NAME}` or `${NAME:default}`; `$${` stands for a plain `${`. */
const PLACEHOLDER = /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}/g;

/** Paths whose values are not repeated in messages. */
const SECRET = /(token|secret|password|key|source|url|addr)$/;

/**
 * The configuration in `path`: a YAML file, or a directory whose `.yaml` and `.yml` files are merged in the order of
 * their names (a later value wins; lists are replaced). `${NAME}` and `${NAME:default}` stand for environment
 * variables. The variables of `spec.environment` take precedence over the files.
 *
 * @throws ConfigError with every violation
 */
export function loadConfig<T>(path: string, spec: ConfigSpec<T>, env: Environment = process.env): T {
  const { schema } = spec;
  const violations: Violation[] = [];
  const tree: Tree = new Map();
  addTree(tree, schema, spec.defaults, '', violations);
  for (const file of configFiles(path, violations)) {
    const value = parseYaml(file, violations);
    if (value === undefined || value === null) continue;
    addTree(tree, schema, substitute(value, '', env, violations), '', violations);
  }
  if (spec.environment) {
    addTree(tree, schema, environmentOverlay(schema, spec.environment, env, violations), '', violations);
  }
  const json = toJson(tree, schema, spec, violations);
  spec.addDependentDefaults?.(json);
  const message = fromJson(schema, json);
  const result = createValidator({ registry: spec.registry }).validate(schema, message);
  if (result.kind === 'error') throw result.error;
  for (const v of result.violations ?? []) violations.push({ path: pathToString(v.field), description: v.message });
  const config = toConfig(schema, message) as T;
  violations.push(...(spec.check?.(config) ?? []));
  const variables = variablesOf(tree);
  const named = violations.map((v) => ({ variable: variables.get(v.path.replace(/\[\d+\]$/, '')), ...v }));
  const distinct = new Map(named.map((v) => [formatViolation(v), v]));
  if (distinct.size > 0) throw new ConfigError(path, [...distinct.values()]);
  return config;
}

function configFiles(path: string, violations: Violation[]): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const files = readdirSync(path)
      .filter((f) => /\.ya?ml$/.test(f))
      .sort()
      .map((f) => join(path, f));
    if (files.length === 0) violations.push({ path: '', description: 'the directory has no .yaml file' });
    return files;
  } catch (err) {
    violations.push({ path: '', description: (err as Error).message });
    return [];
  }
}

function parseYaml(file: string, violations: Violation[]): unknown {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (err) {
    violations.push({ path: '', description: (err as Error).message });
    return undefined;
  }
  const documents = parseAllDocuments(text, { uniqueKeys: true, prettyErrors: true });
  if (!Array.isArray(documents)) return undefined;
  if (documents.length > 1) violations.push({ path: file, description: 'more than one document' });
  const [document] = documents;
  if (!document) return undefined;
  for (const e of document.errors) {
    violations.push({ path: file, description: e.message.replace(/\s*\n[\s\S]*$/, '') });
  }
  return document.errors.length > 0 ? undefined : document.toJS({ maxAliasCount: 100 });
}

function substitute(value: unknown, path: string, env: Environment, violations: Violation[]): unknown {
  if (typeof value === 'string') {
    let found = false;
    let variable: string | undefined;
    const text = value.replace(PLACEHOLDER, (all, name: string | undefined, fallback: string | undefined) => {
      found = true;
      if (name === undefined) return all.slice(1);
      const given = readVariable(name, env, violations);
      if (given !== undefined) {
        variable = name;
        return given;
      }
      if (fallback === undefined) violations.push({ path, description: `the environment has no ${name}` });
      return fallback ?? '';
    });
    return found ? new Substituted(text, variable) : value;
  }
  if (Array.isArray(value)) return value.map((v, i) => substitute(v, `${path}[${i}]`, env, violations));
  if (isObject(value)) {
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [k, substitute(v, joinPath(path, k), env, violations)]),
    );
  }
  return value;
}

/** Merges the values of a file into the tree. Unknown keys, and values in place of a section, are violations. */
function addTree(tree: Tree, schema: DescMessage, value: unknown, path: string, violations: Violation[]): void {
  if (!isObject(value)) {
    violations.push({ path: path || 'the file', description: `must be an object, not ${show(value)}` });
    return;
  }
  const seen = new Set<DescField>();
  for (const [key, v] of Object.entries(value)) {
    const field = schema.fields.find((f) => f.name === key || f.jsonName === key);
    if (!field) {
      violations.push({ path: joinPath(path, key), description: 'unknown key' });
      continue;
    }
    const at = joinPath(path, field.name);
    if (seen.has(field)) {
      violations.push({ path: at, description: `given twice, as ${field.name} and as ${field.jsonName}` });
    }
    seen.add(field);
    // An empty YAML value keeps the earlier one.
    if (v === null || v === undefined) continue;
    if (isSection(field)) {
      const sub = tree.get(field);
      const section: Tree = sub instanceof Map ? sub : new Map();
      tree.set(field, section);
      addTree(section, field.message, v, at, violations);
    } else {
      tree.set(field, { path: at, value: v });
    }
  }
}

/** The environment variables that values came from, by the path of the setting. */
function variablesOf(tree: Tree, found = new Map<string, string>()): ReadonlyMap<string, string> {
  for (const node of tree.values()) {
    if (node instanceof Map) {
      variablesOf(node, found);
      continue;
    }
    const value: unknown = Array.isArray(node.value) ? node.value[0] : node.value;
    if (value instanceof Substituted && value.variable !== undefined) found.set(node.path, value.variable);
  }
  return found;
}

/** Proto JSON of the tree. A value that does not fit its field is a violation, and its default takes its place. */
function toJson(tree: Tree, schema: DescMessage, spec: JsonSpec, violations: Violation[]): JsonObject {
  const json: JsonObject = {};
  for (const [field, node] of tree) {
    if (node instanceof Map) {
      json[field.jsonName] = isSection(field) ? toJson(node, field.message, spec, violations) : null;
      continue;
    }
    const value = scalars(field, node, spec.numbersAsText ?? []);
    try {
      fromJson(schema, { [field.jsonName]: value });
      json[field.jsonName] = value;
    } catch {
      const given = SECRET.test(node.path) ? 'the given value' : show(node.value);
      violations.push({ path: node.path, description: `must be ${expected(field)}, not ${given}` });
      const fallback = defaultOf(node.path, spec);
      if (fallback !== undefined) json[field.jsonName] = fallback;
    }
  }
  return json;
}

/** Takes the place of a value that was refused, so that the rules find no second violation at the same path. */
function defaultOf(path: string, spec: JsonSpec): JsonValue | undefined {
  let json: JsonValue | undefined = spec.defaults;
  let schema: DescMessage | undefined = spec.schema;
  for (const name of path.split('.')) {
    const field: DescField | undefined = schema?.fields.find((f) => f.name === name);
    if (!field || !isObject(json)) return undefined;
    json = (json as Record<string, JsonValue>)[field.jsonName];
    schema = field.message;
  }
  return json;
}

function scalars(field: DescField, leaf: Leaf, numbersAsText: readonly string[]): JsonValue {
  const convert = (v: unknown): JsonValue => {
    if (v instanceof Substituted) {
      if (field.scalar === ScalarType.BOOL && (v.text === 'true' || v.text === 'false')) return v.text === 'true';
      return v.text;
    }
    if (typeof v === 'number' && numbersAsText.includes(leaf.path)) return String(v);
    return v as JsonValue;
  };
  return Array.isArray(leaf.value) ? leaf.value.map(convert) : convert(leaf.value);
}

function expected(field: DescField): string {
  if (field.fieldKind === 'list') return 'a list of text';
  if (field.fieldKind === 'message') return 'a duration such as "1.5s"';
  switch (field.scalar) {
    case ScalarType.STRING:
      return 'text (in quotes where YAML would read a number)';
    case ScalarType.BOOL:
      return 'true or false';
    case ScalarType.DOUBLE:
      return 'a number';
    default:
      return 'a whole number';
  }
}

function toConfig(schema: DescMessage, message: Message): unknown {
  const config: Record<string, unknown> = {};
  const r = reflect(schema, message);
  for (const field of schema.fields) {
    const value = (message as unknown as Record<string, unknown>)[field.localName];
    if (field.fieldKind === 'message' && field.message.typeName === 'google.protobuf.Duration') {
      const d = value as { seconds: bigint; nanos: number } | undefined;
      config[`${field.localName}Ms`] = d ? Number(d.seconds) * 1000 + d.nanos / 1e6 : 0;
    } else if (field.fieldKind === 'message') {
      config[field.localName] = toConfig(field.message, r.get(field).message);
    } else {
      const addr = field.name === 'addr' || field.name.endsWith('_addr');
      // An address that is also given to people and tools often has a scheme.
      config[field.localName] = addr ? String(value).replace(/^(https?|grpc):\/\//, '') : value;
      if (Array.isArray(value)) Object.freeze(value);
    }
  }
  return Object.freeze(config);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Substituted) &&
    !(value instanceof Date)
  );
}

function joinPath(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}

function show(value: unknown): string {
  if (value instanceof Substituted) return JSON.stringify(value.text);
  return JSON.stringify(value) ?? String(value);
}
