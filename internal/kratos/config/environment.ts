import { readFileSync } from 'node:fs';
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import type { Violation } from './config-error.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Which environment variables stand for settings. */
export interface EnvironmentRule {
  /** The variable of `server.grpc.addr` is `<PREFIX>_SERVER_GRPC_ADDR`. */
  readonly prefix: string;
  /** Variables that begin like those of a section but stand for something else. All others of this kind are violations. */
  readonly foreign: RegExp;
  /** Earlier names of variables. They are violations, because their value would be lost. */
  readonly renamed: Readonly<Record<string, string>>;
}

/** A field of the configuration that is not a section. */
export interface Setting {
  /** Such as `server.grpc.addr`. */
  readonly path: string;
  /** The environment variable that overrides it, such as `KAIMAI_SERVER_GRPC_ADDR`. */
  readonly variable: string;
  readonly field: DescField;
}

/** Appended to the name of a variable: its value is the path of a file that holds the value. */
export const FILE_SUFFIX = '_FILE';

/** Text that came from the environment, or from a default in a placeholder. It may stand for a number or a boolean. */
export class Substituted {
  /** @param variable the environment variable that it came from */
  constructor(
    readonly text: string,
    readonly variable: string | undefined,
  ) {}
}

/** A message that has settings of its own, other than those of google.protobuf, which are values. */
export function isSection(field: DescField): field is DescField & { fieldKind: 'message'; message: DescMessage } {
  return field.fieldKind === 'message' && !field.message.typeName.startsWith('google.protobuf.');
}

/** All settings of a configuration, in the order of their declaration. */
export function settingsOf(schema: DescMessage, prefix: string, path = ''): Setting[] {
  return schema.fields.flatMap((field) => {
    const at = path === '' ? field.name : `${path}.${field.name}`;
    if (isSection(field)) return settingsOf(field.message, prefix, at);
    return [{ path: at, variable: `${prefix}_${at.replaceAll('.', '_').toUpperCase()}`, field }];
  });
}

/**
 * Reads a variable, or the file that `<name>_FILE` names, without the line break at its end.
 * @returns undefined if neither is set. An empty variable or file counts as not set.
 */
export function readVariable(name: string, env: Environment, violations: Violation[]): string | undefined {
  const value = env[name] || undefined;
  const file = env[`${name}${FILE_SUFFIX}`];
  if (!file) return value;
  const variable = `${name}${FILE_SUFFIX}`;
  const add = (description: string) => violations.push({ path: '', variable, description });
  if (value !== undefined) {
    add(`set together with ${name}: only one of them may be set`);
    return value;
  }
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '') || undefined;
  } catch (err) {
    add((err as Error).message);
    return undefined;
  }
}

/** The settings that the environment overrides, as the object that a file with these settings would hold. */
export function environmentOverlay(
  schema: DescMessage,
  rule: EnvironmentRule,
  env: Environment,
  violations: Violation[],
): Record<string, unknown> {
  const overlay: Record<string, unknown> = {};
  const settings = settingsOf(schema, rule.prefix);
  for (const { path, variable, field } of settings) {
    const text = readVariable(variable, env, violations);
    if (text !== undefined) put(overlay, path, substituted(field, text, variable));
  }
  violations.push(...unknownVariables(schema, settings, rule, env));
  return overlay;
}

/** A list is written with commas between its items. */
function substituted(field: DescField, text: string, variable: string): unknown {
  if (field.fieldKind !== 'list') return new Substituted(text, variable);
  return text.split(',').map((item) => new Substituted(item.trim(), variable));
}

function put(tree: Record<string, unknown>, path: string, value: unknown): void {
  const [first = '', ...rest] = path.split('.');
  if (rest.length === 0) {
    tree[first] = value;
    return;
  }
  tree[first] ??= {};
  put(tree[first] as Record<string, unknown>, rest.join('.'), value);
}

/** A misspelt variable would otherwise leave a setting, perhaps a secret, at its default without a word. */
function unknownVariables(
  schema: DescMessage,
  settings: readonly Setting[],
  { prefix, foreign, renamed }: EnvironmentRule,
  env: Environment,
): Violation[] {
  const known = new Set(settings.map((s) => s.variable));
  const sections = schema.fields.map((f) => `${prefix}_${f.name.toUpperCase()}_`);
  return Object.keys(env)
    .sort()
    .flatMap((name) => {
      const variable = name.endsWith(FILE_SUFFIX) ? name.slice(0, -FILE_SUFFIX.length) : name;
      if (env[name] === '' || known.has(name) || known.has(variable)) return [];
      const successor = renamed[variable];
      if (successor !== undefined) return [{ path: '', variable: name, description: `renamed: set ${successor}` }];
      if (!sections.some((s) => name.startsWith(s)) || foreign.test(name)) return [];
      return [{ path: '', variable: name, description: 'stands for no setting' }];
    });
}
