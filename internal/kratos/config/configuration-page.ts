import { type DescField, type DescMessage, type JsonValue, ScalarType } from '@bufbuild/protobuf';
import { commentOf } from '../transport/openapi/comments.js';
import { type EnvironmentRule, isSection, type Setting, settingsOf } from './environment.js';
import type { ConfigSpec } from './load-config.js';

type Spec = Pick<ConfigSpec<never>, 'schema' | 'defaults' | 'live'>;

/** Markdown: a heading and a table of settings for each section of a configuration. */
export function configurationPage(spec: Spec, { prefix }: EnvironmentRule): string {
  const variables = new Map(settingsOf(spec.schema, prefix).map((s) => [s.path, s]));
  return sections(spec.schema, '', '')
    .map(({ path, schema, comment }) => {
      const rows = schema.fields.flatMap((field) => {
        const setting = variables.get(`${path}.${field.name}`);
        return setting ? [row(setting, spec)] : [];
      });
      const table = ['| setting | variable | type | default | meaning |', '|---|---|---|---|---|', ...rows];
      const parts = [`${path.includes('.') ? '###' : '##'} ${path}`, comment, rows.length > 0 ? table.join('\n') : ''];
      return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
    })
    .join('\n');
}

interface Section {
  readonly path: string;
  readonly schema: DescMessage;
  readonly comment: string;
}

function sections(schema: DescMessage, path: string, comment: string): Section[] {
  const inner = schema.fields.filter(isSection).flatMap((field) => {
    const at = path === '' ? field.name : `${path}.${field.name}`;
    const comments = [commentOf(field.message), commentOf(field)].filter((c) => c !== '');
    return sections(field.message, at, comments.join('\n\n'));
  });
  return path === '' ? inner : [{ path, schema, comment }, ...inner];
}

/** The sentence of a comment that names the default. A period ends it only before a space. */
const DEFAULT = /\s*\bDefault:? (.+?)\.(?=\s|$)/;

function row({ path, variable, field }: Setting, { defaults, live }: Spec): string {
  const comment = commentOf(field);
  const name = path.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  const isLive = live.some((l) => name === l || (l.endsWith('.') && name.startsWith(l)));
  const fallback = DEFAULT.exec(comment)?.[1] ?? describeDefault(defaultOf(defaults, name));
  const meaning = `${comment.replace(DEFAULT, '').trim()}${isLive ? ' *Live.*' : ''}`;
  const cells = [`\`${path}\``, `\`${variable}\``, typeOf(field), fallback, meaning.trim()];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replace(/\s+/g, ' ')).join(' | ')} |`;
}

function defaultOf(defaults: JsonValue, name: string): JsonValue | undefined {
  return name
    .split('.')
    .reduce<JsonValue | undefined>((json, key) => (json as Record<string, JsonValue>)?.[key], defaults);
}

function describeDefault(value: JsonValue | undefined): string {
  if (value === undefined || value === '') return 'required';
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(', ');
  return String(value);
}

function typeOf(field: DescField): string {
  if (field.fieldKind === 'list') return 'list of text';
  if (field.fieldKind === 'message') return 'duration';
  switch (field.scalar) {
    case ScalarType.STRING:
      return 'text';
    case ScalarType.BOOL:
      return 'boolean';
    case ScalarType.DOUBLE:
      return 'number';
    default:
      return 'integer';
  }
}
