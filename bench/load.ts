/** The load generators, with their reports in a common form. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectRoot } from '../internal/local/project.js';
import { runTool } from './tool.js';

/** The installed programs. */
export interface Generators {
  readonly ghz: string | undefined;
  readonly h2load: string | undefined;
  readonly redisBenchmark: string | undefined;
}

/** Number of calls by what they failed with. */
export type Errors = Readonly<Record<string, number>>;

/** Result of one load. */
export interface Load {
  /** Successful replies per second. */
  readonly perSecond: number;
  readonly answered: number;
  /** Calls without a reply, or with an error. */
  readonly failed: number;
  /** The failed calls by their error, as far as the generator tells. */
  readonly errors: Errors;
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
}

/** @throws with the errors of the calls that failed */
export function requireNoFailures({ answered, failed, errors }: Load): void {
  if (failed === 0) return;
  throw new Error(`${failed} of ${answered + failed} calls failed: ${causesOf(errors)}`);
}

/** The errors with their numbers, in a line. */
export function causesOf(errors: Errors): string {
  const causes = Object.entries(errors).map(([error, count]) => `${count} × ${error}`);
  return causes.length === 0 ? 'the load generator does not say why' : causes.slice(0, MAX_ERRORS).join('; ');
}

/** Concurrent calls, the same for every generator. */
export const IN_FLIGHT = 128;
const CONNECTIONS = 16;
const MARGIN_MS = 30_000;
const USER = '1';
const COUNT_TIMEOUT_MS = 120_000;
/** Different errors that are named. */
const MAX_ERRORS = 5;

export interface CallOptions {
  /** Path of the method or of the route. */
  readonly path: string;
  readonly body: Uint8Array;
  readonly target: string;
  readonly seconds: number;
  /** Additional headers, as `name: value`. */
  readonly headers?: readonly string[];
}

export interface UnaryOptions extends CallOptions {
  /** Calls per second; absent: as many as possible. Latencies are only reported with a rate. */
  readonly perSecond?: number | undefined;
}

/** Names of the generators that `unaryLoad` and `jsonLoad` use, for the results. */
export function generatorNames({ h2load }: Generators): { unary: string; json: string } {
  return h2load !== undefined
    ? { unary: 'h2load', json: 'h2load' }
    : { unary: 'grpc-js client (no h2load here)', json: 'autocannon (no h2load here)' };
}

/**
 * Unary gRPC calls by h2load, which leaves most of the CPU to the server. It sends the same headers with every call, so
 * all
 * calls come from one user. It only knows HTTP, so a call with an error in its grpc-status counts as answered: the
 * caller
 * must verify what the server did.
 */
export async function unaryLoad(generators: Generators, options: UnaryOptions): Promise<Load> {
  if (generators.h2load === undefined) return grpcJsLoad({ ...options, bodies: [options.body], users: 1 });
  const rate = options.perSecond;
  const flags = [`-c${CONNECTIONS}`, `-m${IN_FLIGHT / CONNECTIONS}`, '-H', 'te: trailers'];
  for (const header of options.headers ?? []) flags.push('-H', header);
  if (rate !== undefined) flags.push(`--rps=${Math.max(1, Math.round(rate / CONNECTIONS))}`);
  return h2load(generators.h2load, options, 'application/grpc', frame(options.body), flags, rate !== undefined);
}

/** JSON calls over HTTP/1.1 with the same concurrency, all from one user. */
export async function jsonLoad(generators: Generators, options: CallOptions): Promise<Load> {
  if (generators.h2load === undefined) return autocannon(options);
  return h2load(generators.h2load, options, 'application/json', options.body, [`-c${IN_FLIGHT}`, '-m1', '--h1'], false);
}

async function h2load(
  program: string,
  { path, target, seconds }: CallOptions,
  contentType: string,
  body: Uint8Array,
  flags: readonly string[],
  timed: boolean,
): Promise<Load> {
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-h2load-'));
  try {
    const bodyFile = join(folder, 'body');
    const log = join(folder, 'log');
    writeFileSync(bodyFile, body);
    const args = [
      '-t1',
      `-D${seconds}`,
      '-d',
      bodyFile,
      '-H',
      `content-type: ${contentType}`,
      '-H',
      `x-user-id: ${USER}`,
    ];
    if (timed) args.push(`--log-file=${log}`);
    const report = await runTool(program, [...args, ...flags, `http://${target}${path}`], {
      timeoutMs: seconds * 1_000 + MARGIN_MS,
    });
    const count = (of: string) => Number(new RegExp(`(\\d+) ${of}`).exec(report)?.[1] ?? Number.NaN);
    const answered = count('2xx');
    const times = timed ? latencies(readFileSync(log, 'utf8')) : [];
    const errors = { 'HTTP 4xx': count('4xx'), 'HTTP 5xx': count('5xx') };
    return {
      perSecond: answered / seconds,
      answered,
      failed: errors['HTTP 4xx'] + errors['HTTP 5xx'],
      errors: occurred(errors),
      p50Ms: percentile(times, 0.5),
      p99Ms: percentile(times, 0.99),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Unary gRPC calls of several users, whose bodies take turns; for services that answer a repeated call without a write. */
export function variedLoad(
  options: Omit<CallOptions, 'body'> & { readonly bodies: readonly Uint8Array[]; readonly users: number },
): Promise<Load> {
  return grpcJsLoad(options);
}

/** Runs in a separate process, so that it does not share a thread with the measurement. */
async function grpcJsLoad(
  options: Omit<UnaryOptions, 'body'> & { readonly bodies: readonly Uint8Array[]; readonly users: number },
): Promise<Load> {
  const settings = {
    ...{
      headers: options.headers ?? [],
      path: options.path,
      target: options.target,
      seconds: options.seconds,
      perSecond: options.perSecond,
    },
    ...{
      bodies: options.bodies.map((body) => Buffer.from(body).toString('base64')),
      connections: CONNECTIONS,
      inFlight: IN_FLIGHT,
      users: options.users,
    },
  };
  const program = fileURLToPath(new URL('./grpc-load.js', import.meta.url));
  const report = await runTool(process.execPath, [program, JSON.stringify(settings)], {
    timeoutMs: options.seconds * 1_000 + MARGIN_MS,
  });
  const { answered, errors, latenciesMs } = JSON.parse(report) as {
    answered: number;
    errors: Errors;
    latenciesMs: number[];
  };
  const times = options.perSecond === undefined ? [] : latenciesMs.sort((a, b) => a - b);
  const perSecond = answered / options.seconds;
  const failed = sum(errors);
  return { perSecond, answered, failed, errors, p50Ms: percentile(times, 0.5), p99Ms: percentile(times, 0.99) };
}

/** The client's default. */
const STREAMS = 4;
/** What a gateway has under way in a rush: a quarter of the windows. */
const STREAM_IN_FLIGHT = 1_024;

export interface StreamOptions {
  readonly target: string;
  readonly token: string;
  readonly itemId: bigint;
  /** Duration; absent: until `count` purchases are made. */
  readonly seconds?: number;
  readonly count?: number;
  /** The users are numbered from here. Default 1. */
  readonly firstUser?: number;
  /** Whether their numbers follow no order, as those of a real sale. */
  readonly scattered?: boolean;
  /** Purchases of a message. */
  readonly perMessage: number;
  /** How long the client waits for a result. Default 5,000. */
  readonly timeoutMs?: number;
}

/** Purchases over PurchaseStream by the published client, each by another user, in a separate process. */
export async function streamLoad({ itemId, ...options }: StreamOptions): Promise<Load> {
  const settings = { ...options, itemId: String(itemId), streams: STREAMS, inFlight: STREAM_IN_FLIGHT };
  const program = fileURLToPath(new URL('./stream-load.js', import.meta.url));
  const report = await runTool(process.execPath, [program, JSON.stringify(settings)], {
    timeoutMs: options.seconds === undefined ? COUNT_TIMEOUT_MS : options.seconds * 1_000 + MARGIN_MS,
  });
  const { answered, errors, seconds } = JSON.parse(report) as { answered: number; errors: Errors; seconds: number };
  const perSecond = answered / seconds;
  return { perSecond, answered, failed: sum(errors), errors, p50Ms: undefined, p99Ms: undefined };
}

async function autocannon({ path, body, target, seconds }: CallOptions): Promise<Load> {
  const args = ['--yes', 'autocannon@9.0.0', '-c', String(IN_FLIGHT), '-d', String(seconds), '-m', 'POST', '--json'];
  args.push('-H', 'content-type=application/json', '-H', `x-user-id=${USER}`, '-b', Buffer.from(body).toString());
  const report = await runTool('npx', [...args, `http://${target}${path}`], {
    timeoutMs: seconds * 1_000 + 4 * MARGIN_MS,
  });
  const result = JSON.parse(report) as { '2xx': number; non2xx: number; errors: number };
  const errors = { 'other HTTP status': result.non2xx, 'no reply': result.errors };
  return {
    perSecond: result['2xx'] / seconds,
    answered: result['2xx'],
    failed: sum(errors),
    errors: occurred(errors),
    p50Ms: undefined,
    p99Ms: undefined,
  };
}

function sum(errors: Errors): number {
  return Object.values(errors).reduce((total, count) => total + count, 0);
}

function occurred(errors: Errors): Errors {
  return Object.fromEntries(Object.entries(errors).filter(([, count]) => count > 0));
}

/** A gRPC message frame: uncompressed, with its length. */
function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.alloc(5 + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, 5);
  return bytes;
}

/** Latencies in milliseconds from h2load's request log: start, status, microseconds. */
function latencies(log: string): number[] {
  return log
    .split('\n')
    .map((line) => line.split('\t'))
    .filter((columns) => columns[1] === '200')
    .map((columns) => Number(columns[2]) / 1_000)
    .sort((a, b) => a - b);
}

function percentile(sorted: readonly number[], share: number): number | undefined {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

interface GhzReport {
  readonly count: number;
  readonly rps: number;
  readonly statusCodeDistribution: Readonly<Record<string, number>>;
  /** By the text of the error, which begins with its code. */
  readonly errorDistribution: Errors | null;
  readonly latencyDistribution: readonly { readonly percentage: number; readonly latency: number }[] | null;
}

export interface GhzOptions {
  /** A file in bench/ghz, without its extension. */
  readonly scenario: string;
  /** The request; overrides the scenario's. */
  readonly data: object;
  readonly target: string;
  /** Duration; overrides the scenario's. */
  readonly seconds?: number;
  /** Number of calls; overrides the duration. */
  readonly count?: number;
  /** From 1. Runs with different numbers have no users in common. */
  readonly run?: number;
}

/** ghz uses a different user per call and decodes every reply, which costs it more CPU than many servers use. */
export async function ghz(program: string, options: GhzOptions): Promise<Load> {
  const args = [`--config=bench/ghz/${options.scenario}.json`, `--data=${JSON.stringify(options.data)}`];
  if (options.seconds !== undefined) args.push(`--duration=${options.seconds}s`);
  if (options.count !== undefined) args.push('--duration=0', `--total=${options.count}`);
  if (options.run !== undefined) {
    args.push(`--metadata={"x-user-id":"${options.run}{{printf \`%09d\` .RequestNumber}}"}`);
  }
  args.push('--format=json', options.target);
  const report = JSON.parse(
    await runTool(program, args, { timeoutMs: COUNT_TIMEOUT_MS, cwd: projectRoot }),
  ) as GhzReport;
  const latency = (percentage: number) => {
    const found = report.latencyDistribution?.find((l) => l.percentage === percentage);
    return found && found.latency / 1_000_000;
  };
  const answered = report.statusCodeDistribution.OK ?? 0;
  return {
    perSecond: (report.rps * answered) / Math.max(1, report.count),
    answered,
    failed: report.count - answered,
    errors: report.errorDistribution ?? {},
    p50Ms: latency(50),
    p99Ms: latency(99),
  };
}

export interface RedisBenchmarkOptions {
  readonly port: number;
  readonly database: number;
  readonly sha: string;
  readonly keys: readonly string[];
  readonly epoch: string;
  readonly count: number;
  /** Calls that each of the 50 connections pipelines. */
  readonly pipeline: number;
}

/** redis-benchmark silently truncates a larger value to an int: all purchases would then be by one user. */
const USERS = '2000000000';

/** redis-benchmark running the admission script; its 12 random digits give each purchase a different user. */
export async function redisBenchmark(program: string, options: RedisBenchmarkOptions): Promise<Load> {
  const args = [
    ...['-h', '127.0.0.1', '-p', String(options.port), '-c', '50', '-n', String(options.count)],
    ...['--dbnum', String(options.database), '-P', String(options.pipeline), '-r', USERS, '--csv'],
    ...['EVALSHA', options.sha, String(options.keys.length), ...options.keys],
    ...[options.epoch, '00000000-0000-8000-8000-__rand_int__', '1', '', ''],
  ];
  const report = await runTool(program, args, { timeoutMs: 10 * MARGIN_MS });
  // "test","rps","avg_latency_ms","min","p50","p95","p99","max"
  const row = report.trim().split('\n').at(-1) ?? '';
  // The first column quotes the command, which may contain commas: count from the end.
  const figures = row.split(',').map((column) => Number(column.replaceAll('"', '')));
  return {
    perSecond: figures.at(-7) ?? Number.NaN,
    answered: options.count,
    failed: 0,
    errors: {},
    p50Ms: figures.at(-4),
    p99Ms: figures.at(-2),
  };
}
