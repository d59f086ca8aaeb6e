import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { runFolder } from './project.js';

/** What `kaimai up` runs, as `export` lines for shells: `. .run/env`. There only while it runs. */
export const RUN_ENV_FILE = join(runFolder, 'env');

const OWN_URLS_FILE = join(runFolder, 'own-urls.json');

/** Goes to the front of the PATH of shells that read the file. */
export const BIN_FOLDER = join(runFolder, 'bin');

export function formatRunEnv(variables: Readonly<Record<string, string>>): string {
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`)
    .join('');
}

export function parseRunEnv(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const [, name, value] = /^export ([A-Z_][A-Z0-9_]*)='(.*)'$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) variables[name] = value.replaceAll(`'\\''`, "'");
  }
  return variables;
}

/** Readable by its owner alone, for the password in it. */
export function writeRunEnv(variables: Readonly<Record<string, string>>): void {
  mkdirSync(dirname(RUN_ENV_FILE), { recursive: true });
  writeFileSync(RUN_ENV_FILE, `${formatRunEnv(variables)}export PATH="${BIN_FOLDER}:$PATH"\n`, { mode: 0o600 });
}

/**
 * A shell that has read .run/env still names the servers of a launcher that has since stopped. What was written there
 * is
 * remembered, and does not count as a server given by the user.
 */
export function rememberOwnUrls(urls: Readonly<Record<string, string>>): void {
  writeFileSync(OWN_URLS_FILE, JSON.stringify(urls), { mode: 0o600 });
}

/** Takes out of the environment what an earlier `kaimai up` of this project wrote to .run/env. */
export function forgetOwnUrls(): void {
  let urls: Record<string, string>;
  try {
    urls = JSON.parse(readFileSync(OWN_URLS_FILE, 'utf8')) as Record<string, string>;
  } catch {
    return;
  }
  for (const [name, url] of Object.entries(urls)) {
    if (process.env[name] === url) delete process.env[name];
  }
}

export function removeRunEnv(): void {
  rmSync(RUN_ENV_FILE, { force: true });
}

/**
 * Lets a command find what `kaimai up` runs in this project without any set-up. What the environment says stands.
 */
export function adoptRunEnv(): void {
  let text: string;
  try {
    text = readFileSync(RUN_ENV_FILE, 'utf8');
  } catch {
    return;
  }
  for (const [name, value] of Object.entries(parseRunEnv(text))) {
    process.env[name] ??= value;
  }
}
