import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonValue,
  type Message,
  ScalarType,
} from '@bufbuild/protobuf';
import { pathToString, reflect } from '@bufbuild/protobuf/reflect';
import { createValidator } from '@bufbuild/protovalidate';
import { parseAllDocuments } from 'yaml';
import type { Config } from './config.js';
import { DEFAULTS, DEVELOPMENT_JWT_SECRET, DEVELOPMENT_TOKEN } from './defaults.js';
import { loadDescriptors } from './descriptors.js';

/** What is wrong with a configuration: every fault, each as `path: what is wrong`. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly faults: readonly string[];

  constructor(source: string, faults: readonly string[]) {
    super(
      `${source}: ${faults.length} fault${faults.length === 1 ? '' : 's'}\n${faults.map((f) => `  ${f}`).join('\n')}`,
    );
    this.faults = faults;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;
type Tree = Map<DescField, Leaf | Tree>;
interface Leaf {
  readonly path: string;
  readonly value: unknown;
}

/** `${NAME}` or `${NAME:default}`; `$${` stands for a plain `${`. */
const PLACEHOLDER = /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}/g;

/** Values that no message repeats. */
const SECRET = /(token|secret|password|key|source|url|addr)$/;

/** `workers: 4` is what people write, though the field has to be text for "auto". */
const NUMBERS_AS_TEXT = new Set(['server.workers']);

/**
 * The configuration that `path` holds: a YAML file, or a directory whose `.yaml` and `.yml` files are merged in the
 * order of their names (a later value wins; lists are replaced).
 *
 * @throws ConfigError with every fault there is
 */
export function loadBootstrap(path: string, env: Environment = process.env): Config {
  const faults: string[] = [];
  const schema = bootstrapSchema();
  const tree: Tree = new Map();
  addTree(tree, schema, DEFAULTS, '', faults);
  for (const file of configFiles(path, faults)) {
    const value = parseYaml(file, faults);
    if (value === undefined || value === null) continue;
    addTree(tree, schema, substitute(value, '', env, faults), '', faults);
  }
  const json = toJson(tree, schema, faults);
  outsideProduction(json);
  const message = fromJson(schema, json);
  const result = createValidator({ registry: loadDescriptors().registry }).validate(schema, message);
  if (result.kind === 'error') throw result.error;
  for (const v of result.violations ?? []) faults.push(`${pathToString(v.field)}: ${v.message}`);
  const config = toConfig(schema, message) as Config;
  faults.push(...crossFaults(config));
  if (faults.length > 0) throw new ConfigError(path, [...new Set(faults)]);
  return config;
}

function bootstrapSchema(): DescMessage {
  const schema = loadDescriptors().registry.getMessage('kaimai.conf.Bootstrap');
  if (!schema) throw new Error('gen/descriptor.binpb has no kaimai.conf.Bootstrap: run make api');
  return schema;
}

function configFiles(path: string, faults: string[]): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const files = readdirSync(path)
      .filter((f) => /\.ya?ml$/.test(f))
      .sort()
      .map((f) => join(path, f));
    if (files.length === 0) faults.push('the directory has no .yaml file');
    return files;
  } catch (err) {
    faults.push((err as Error).message);
    return [];
  }
}

function parseYaml(file: string, faults: string[]): unknown {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (err) {
    faults.push((err as Error).message);
    return undefined;
  }
  const documents = parseAllDocuments(text, { uniqueKeys: true, prettyErrors: true });
  if (!Array.isArray(documents)) return undefined;
  if (documents.length > 1) faults.push(`${file}: more than one document`);
  const [document] = documents;
  if (!document) return undefined;
  for (const e of document.errors) faults.push(`${file}: ${e.message.replace(/\s*\n[\s\S]*$/, '')}`);
  return document.errors.length > 0 ? undefined : document.toJS({ maxAliasCount: 100 });
}

/** A value that came from a placeholder: text that may stand for a number or a boolean. */
class Substituted {
  constructor(readonly text: string) {}
}

function substitute(value: unknown, path: string, env: Environment, faults: string[]): unknown {
  if (typeof value === 'string') {
    let found = false;
    const text = value.replace(PLACEHOLDER, (all, name: string | undefined, fallback: string | undefined) => {
      found = true;
      if (name === undefined) return all.slice(1);
      const given = env[name];
      if (given !== undefined && given !== '') return given;
      if (fallback === undefined) faults.push(`${path}: the environment has no ${name}`);
      return fallback ?? '';
    });
    return found ? new Substituted(text) : value;
  }
  if (Array.isArray(value)) return value.map((v, i) => substitute(v, `${path}[${i}]`, env, faults));
  if (isObject(value)) {
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [k, substitute(v, joinPath(path, k), env, faults)]),
    );
  }
  return value;
}

/** Lays a file's values over what is there; keys that no field has, and values where an object belongs, are faults. */
function addTree(tree: Tree, schema: DescMessage, value: unknown, path: string, faults: string[]): void {
  if (!isObject(value)) {
    faults.push(`${path || 'the file'}: must be an object, not ${show(value)}`);
    return;
  }
  const seen = new Set<DescField>();
  for (const [key, v] of Object.entries(value)) {
    const field = schema.fields.find((f) => f.name === key || f.jsonName === key);
    if (!field) {
      faults.push(`${joinPath(path, key)}: unknown key`);
      continue;
    }
    const at = joinPath(path, field.name);
    if (seen.has(field)) faults.push(`${at}: given twice, as ${field.name} and as ${field.jsonName}`);
    seen.add(field);
    // An empty YAML value leaves what is there.
    if (v === null || v === undefined) continue;
    if (isSection(field)) {
      const sub = tree.get(field);
      const section: Tree = sub instanceof Map ? sub : new Map();
      tree.set(field, section);
      addTree(section, field.message, v, at, faults);
    } else {
      tree.set(field, { path: at, value: v });
    }
  }
}

function isSection(field: DescField): field is DescField & { fieldKind: 'message'; message: DescMessage } {
  return field.fieldKind === 'message' && !field.message.typeName.startsWith('google.protobuf.');
}

/** Proto JSON of the tree without the values that do not fit their field; each of those is a fault. */
function toJson(tree: Tree, schema: DescMessage, faults: string[]): { [key: string]: JsonValue } {
  const json: { [key: string]: JsonValue } = {};
  for (const [field, node] of tree) {
    if (node instanceof Map) {
      json[field.jsonName] = isSection(field) ? toJson(node, field.message, faults) : null;
      continue;
    }
    const value = scalars(field, node);
    try {
      fromJson(schema, { [field.jsonName]: value });
      json[field.jsonName] = value;
    } catch {
      faults.push(
        `${node.path}: must be ${expected(field)}, not ${SECRET.test(node.path) ? 'what is given' : show(node.value)}`,
      );
      const fallback = defaultOf(node.path);
      if (fallback !== undefined) json[field.jsonName] = fallback;
    }
  }
  return json;
}

/** Stands in for a value that was refused, so that the rules find no second fault in the same place. */
function defaultOf(path: string): JsonValue | undefined {
  let json: JsonValue | undefined = DEFAULTS;
  let schema: DescMessage | undefined = bootstrapSchema();
  for (const name of path.split('.')) {
    const field: DescField | undefined = schema?.fields.find((f) => f.name === name);
    if (!field || !isObject(json)) return undefined;
    json = (json as Record<string, JsonValue>)[field.jsonName];
    schema = field.message;
  }
  return json;
}

function scalars(field: DescField, leaf: Leaf): JsonValue {
  const convert = (v: unknown): JsonValue => {
    if (v instanceof Substituted) {
      if (field.scalar === ScalarType.BOOL && (v.text === 'true' || v.text === 'false')) return v.text === 'true';
      return v.text;
    }
    if (typeof v === 'number' && NUMBERS_AS_TEXT.has(leaf.path)) return String(v);
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
      // Where an address is also given to people and tools, it often carries a scheme.
      config[field.localName] = addr ? String(value).replace(/^(https?|grpc):\/\//, '') : value;
      if (Array.isArray(value)) Object.freeze(value);
    }
  }
  return Object.freeze(config);
}

/** Defaults that hang on another value. */
function outsideProduction(json: { [key: string]: JsonValue }): void {
  const server = json.server as {
    environment: JsonValue;
    grpc: { reflection?: JsonValue };
    http: { docs?: JsonValue };
  };
  server.grpc.reflection ??= server.environment !== 'production';
  server.http.docs ??= server.environment !== 'production';
}

/** What rules on one field alone cannot say. */
function crossFaults(config: Config): string[] {
  const faults: string[] = [];
  const { auth, registry } = config;
  const production = config.server.environment === 'production';
  if (production && auth.internalToken === DEVELOPMENT_TOKEN) {
    faults.push('auth.internal_token: the development token is refused in production');
  }
  if (production && auth.mode === 'header' && auth.bffToken === '') {
    faults.push('auth.bff_token: production believes identity headers only from a caller that has this token');
  }
  const { algorithm, secret, publicKey, privateKey, issuer, audience } = auth.jwt;
  if (algorithm === 'HS256' && Buffer.byteLength(secret) < 32 && (auth.mode === 'jwt' || secret !== '')) {
    faults.push('auth.jwt.secret: HS256 needs at least 32 bytes');
  }
  if (production && algorithm === 'HS256' && secret === DEVELOPMENT_JWT_SECRET) {
    faults.push('auth.jwt.secret: the development secret is refused in production');
  }
  if (algorithm !== 'HS256' && privateKey !== '' && !isPair(algorithm, privateKey, publicKey)) {
    faults.push(`auth.jwt.private_key: must be the ${algorithm} key (PKCS #8, PEM) that public_key is of`);
  }
  if (auth.mode === 'jwt') {
    if (algorithm !== 'HS256' && !publicKey.includes('-----BEGIN PUBLIC KEY-----')) {
      faults.push(`auth.jwt.public_key: ${algorithm} needs a public key in PEM`);
    }
    if (issuer === '') faults.push('auth.jwt.issuer: must be named');
    if (audience === '') faults.push('auth.jwt.audience: must be named');
  }
  if (registry.kind === 'none' && config.resource.productAddr.startsWith('discovery:')) {
    faults.push('resource.product_addr: discovery:/// needs a registry: registry.kind');
  }
  if (registry.kind === 'etcd' && registry.endpoints.length === 0) {
    faults.push('registry.endpoints: etcd needs at least one');
  }
  for (const [i, proxy] of config.server.trustedProxies.entries()) {
    const [address = '', bits] = proxy.split('/');
    const family = isIP(address);
    if (family === 0 || Number(bits ?? 0) > (family === 4 ? 32 : 128)) {
      faults.push(`server.trusted_proxies[${i}]: must be an address or a network such as 10.0.0.0/8`);
    }
  }
  if (config.server.http.corsOrigins.includes('*') && config.server.http.corsOrigins.length > 1) {
    faults.push('server.http.cors_origins: "*" stands alone');
  }
  return faults;
}

function isPair(algorithm: string, privateKey: string, publicKey: string): boolean {
  try {
    const key = createPrivateKey(privateKey);
    const type = algorithm === 'RS256' ? 'rsa' : 'ed25519';
    return key.asymmetricKeyType === type && createPublicKey(key).equals(createPublicKey(publicKey));
  } catch {
    return false;
  }
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
