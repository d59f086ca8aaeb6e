import { readFileSync } from 'node:fs';
import type { KubernetesObject } from '@kubernetes/client-node';
import { parseAllDocuments } from 'yaml';
import { errorText } from '../../kratos/errors/error-text.js';

export type Json = { readonly [key: string]: unknown };

/** What every instance has beside the defaults. */
export interface InstanceTemplate {
  /** Fields that are merged into every instance's StatefulSet. */
  readonly workload: Json;
  /** Objects that every instance gets, such as a Service and a NetworkPolicy. */
  readonly others: readonly (KubernetesObject & Json)[];
}

export const EMPTY_TEMPLATE: InstanceTemplate = { workload: {}, others: [] };

/** @throws Error naming the file and what is wrong with it */
export function readTemplate(file: string): InstanceTemplate {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (err) {
    throw new Error(`the instance template cannot be read: ${errorText(err)}`, { cause: err });
  }
  return parseTemplate(text, file);
}

export function parseTemplate(text: string, file = 'instance template'): InstanceTemplate {
  const fail = (fault: string): never => {
    throw new Error(`${file}: ${fault}`);
  };
  const objects = parseAllDocuments(text).flatMap((document) => {
    const [fault] = document.errors;
    if (fault) fail(fault.message);
    const value = document.toJS() as unknown;
    if (value === null) return [];
    if (!isJson(value) || typeof value.kind !== 'string' || typeof value.apiVersion !== 'string') {
      return fail('every document must have apiVersion and kind');
    }
    return [value as KubernetesObject & Json];
  });
  const [workload = {}, ...more] = objects.filter(isWorkload);
  if (more.length > 0) fail('there may be one StatefulSet');
  const others = objects.filter((object) => !isWorkload(object));
  const kinds = others.map(({ kind }) => kind);
  const repeated = kinds.find((kind, i) => kinds.indexOf(kind) !== i);
  // All objects of an instance have its name.
  if (repeated !== undefined) fail(`there may be one ${repeated}`);
  return { workload, others };
}

function isWorkload({ apiVersion, kind }: KubernetesObject): boolean {
  return apiVersion === 'apps/v1' && kind === 'StatefulSet';
}

/** Objects are merged key by key; lists whose elements have names, by these names; everything else is replaced. */
export function merge(base: unknown, change: unknown): unknown {
  if (change === undefined) return base;
  if (Array.isArray(base) && Array.isArray(change)) {
    const names = [...base, ...change].map((element) => (isJson(element) ? element.name : undefined));
    if (names.some((name) => typeof name !== 'string')) return change;
    const merged = new Map<unknown, unknown>(base.map((element) => [element.name, element]));
    for (const element of change) merged.set(element.name, merge(merged.get(element.name), element));
    return [...merged.values()];
  }
  if (!isJson(base) || !isJson(change)) return change;
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(change)) merged[key] = merge(base[key], value);
  return merged;
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
