/** Builds the peers. A peer that cannot be built on this machine is skipped, and the results say why. */
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { errorText } from '../internal/kratos/errors/error-text.js';
import { projectRoot } from '../internal/local/project.js';
import { aptInstall, aptIsUsable } from '../internal/local/servers/apt.js';
import { findProgram, runTool } from './tool.js';

const FOLDER = join(projectRoot, 'bench/peers');
const BIN = join(projectRoot, '.run/bench/bin');
const GO_FOLDERS = ['/usr/local/go/bin', join(homedir(), 'go/bin')];
const BUILD_TIMEOUT_MS = 15 * 60_000;
const GHZ = 'github.com/bojand/ghz/cmd/ghz@latest';
const GO_IMAGE = 'golang:1-bookworm';

/** Path of a peer's program, or why it is missing. */
export type Peer = { readonly program: string } | { readonly program: undefined; readonly reason: string };

export interface Peers {
  readonly kratos: Peer;
  readonly nestjs: Peer;
}

/** @param build false: uses only existing builds */
export async function obtainPeers(build: boolean): Promise<Peers> {
  // Sequentially, because each build uses all cores.
  return { kratos: await obtain(build, KRATOS, buildKratos), nestjs: await obtain(build, NESTJS, buildNestjs) };
}

const KRATOS = join(FOLDER, 'kratos/dist/peer-kratos');
const NESTJS = join(FOLDER, 'nestjs/dist/main.js');

async function obtain(build: boolean, program: string, make: () => Promise<void>): Promise<Peer> {
  if (!build) return existsSync(program) ? { program } : { program: undefined, reason: 'was not built before' };
  try {
    await make();
    return { program };
  } catch (err) {
    return { program: undefined, reason: `cannot be built here: ${errorText(err)}` };
  }
}

async function buildKratos(): Promise<void> {
  const go = findProgram('go', GO_FOLDERS);
  if (go === undefined) throw new Error('Go is not on PATH');
  const cwd = join(FOLDER, 'kratos');
  const buf = join(projectRoot, 'node_modules/.bin/buf');
  const env = { PATH: `${dirname(go)}${delimiter}${process.env.PATH}` };
  await runTool(buf, ['generate'], { timeoutMs: BUILD_TIMEOUT_MS, cwd, env });
  const args = ['build', '-trimpath', '-buildvcs=false', '-o', KRATOS, './cmd/peer'];
  await runTool(go, args, { timeoutMs: BUILD_TIMEOUT_MS, cwd });
}

async function buildNestjs(): Promise<void> {
  const cwd = join(FOLDER, 'nestjs');
  await runTool('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { timeoutMs: BUILD_TIMEOUT_MS, cwd });
  await runTool('npm', ['run', '--silent', 'build'], { timeoutMs: BUILD_TIMEOUT_MS, cwd });
}

/** Path of ghz, which is built if necessary. @throws if it is neither installed nor can be built */
export async function obtainGhz(build: boolean): Promise<string> {
  const built = findProgram('ghz', [BIN, ...GO_FOLDERS]);
  if (built !== undefined) return built;
  const go = findProgram('go', GO_FOLDERS);
  if (!build) throw new Error('ghz is not on PATH, and a short round builds nothing');
  const docker = findProgram('docker');
  mkdirSync(BIN, { recursive: true });
  if (go !== undefined) {
    await runTool(go, ['install', GHZ], { timeoutMs: BUILD_TIMEOUT_MS, env: { GOBIN: BIN } });
  } else if (docker !== undefined) {
    // ghz publishes no image; the Go image builds a static program that also runs outside the container.
    const run = ['run', '--rm', '-v', `${BIN}:/go/bin`, '-e', 'CGO_ENABLED=0', GO_IMAGE, 'go', 'install', GHZ];
    await runTool(docker, run, { timeoutMs: BUILD_TIMEOUT_MS });
  } else {
    throw new Error('neither ghz, Go nor Docker is on PATH');
  }
  return join(BIN, 'ghz');
}

/** Path of h2load, installed by apt if allowed; undefined if a replacement has to be used. */
export async function obtainH2load(install: boolean, onLine: (line: string) => void): Promise<string | undefined> {
  const there = findProgram('h2load');
  if (there !== undefined || !install || !aptIsUsable()) return there;
  try {
    await aptInstall(['nghttp2-client'], AbortSignal.timeout(BUILD_TIMEOUT_MS), onLine);
  } catch (err) {
    onLine(`h2load cannot be had: ${errorText(err)}`);
  }
  return findProgram('h2load');
}
