import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  create,
  createFileRegistry,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import {
  createTranscoderServer,
  type ErrorInfo,
  type TranscoderCall,
  type TranscoderOptions,
  type TranscoderReply,
  type TranscoderServer,
} from '../transcoder.js';

/** The root of the repository; tests run from its dist/. */
export const root = findRoot(dirname(fileURLToPath(import.meta.url)));

function findRoot(directory: string): string {
  return existsSync(join(directory, 'package-lock.json')) ? directory : findRoot(dirname(directory));
}

/** Compiles the proto files of a directory together with those of third_party. */
export function compileProtos(directory: string): FileRegistry {
  const modules = [{ path: directory }, { path: 'third_party' }];
  const bytes = execFileSync(
    join(root, 'node_modules/.bin/buf'),
    ['build', '.', '--config', JSON.stringify({ version: 'v2', modules }), '--as-file-descriptor-set', '-o', '-'],
    { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26, timeout: 240_000 },
  );
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
}

let compiled: FileRegistry | undefined;

/** The types in testdata/, compiled once per test run. */
export function libraryRegistry(): FileRegistry {
  compiled ??= compileProtos('internal/kratos/transport/transcoder/testdata');
  return compiled;
}

export const LIBRARY = 'transcoder.test.v1.LibraryService';

export function messageType(name: string): DescMessage {
  const desc = libraryRegistry().getMessage(name.includes('.') ? name : `transcoder.test.v1.${name}`);
  if (desc === undefined) throw new Error(`no message ${name}`);
  return desc;
}

/** Wire format of a message given in JSON, encoded by the reference codec. */
export function wire(desc: DescMessage, json: JsonValue): Uint8Array {
  return toBinary(desc, fromJson(desc, json, { registry: libraryRegistry() }));
}

/** JSON of a message, written by the reference codec: absent and zero fields are omitted. */
export function plainJson(desc: DescMessage, bytes: Uint8Array): JsonValue {
  return toJson(desc, fromBinary(desc, bytes), { registry: libraryRegistry() });
}

/** A call as the handler received it. */
export interface Seen {
  readonly operation: string;
  readonly path: string;
  readonly request: JsonValue;
  /** Metadata by name; bytes as base64. */
  readonly metadata: Readonly<Record<string, string[]>>;
}

/** Records each call; returns the request if the types allow it, otherwise an empty message. */
export function recordingHandler(seen: Seen[]): (call: TranscoderCall) => Promise<TranscoderReply> {
  return async (call) => {
    const bytes = call.bind();
    const metadata: Record<string, string[]> = {};
    for (const [name, value] of call.metadata) {
      const text = typeof value === 'string' ? value : Buffer.from(value).toString('base64');
      metadata[name] = [...(metadata[name] ?? []), text];
    }
    const request = plainJson(call.method.input, bytes);
    seen.push({ operation: call.operation, path: call.path, request, metadata });
    const same = call.method.input.typeName === call.method.output.typeName;
    const message = same ? bytes : toBinary(call.method.output, create(call.method.output));
    return call.method.methodKind === 'server_streaming'
      ? { kind: 'stream', messages: streamOf([message]) }
      : { kind: 'unary', message };
  };
}

export async function* streamOf(messages: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* messages;
}

/** Describes errors in tests: a HostError by its contents, anything else as INTERNAL. */
export function errorOf(err: unknown): ErrorInfo {
  if (err instanceof HostError) return err.info;
  return { code: 13, reason: 'INTERNAL', message: 'internal error' };
}

export class HostError extends Error {
  constructor(readonly info: ErrorInfo) {
    super(info.message);
  }
}

export interface Running {
  readonly server: TranscoderServer;
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

/** A server of the library on a free loopback port. */
export async function serve(
  options: Partial<TranscoderOptions> & Pick<TranscoderOptions, 'handler'>,
): Promise<Running> {
  const server = createTranscoderServer({
    registry: libraryRegistry(),
    services: [LIBRARY],
    errorOf,
    ...options,
    limits: { drainIdleMs: 0, ...options.limits },
  });
  const { port } = await server.start({ host: '127.0.0.1', port: 0 });
  return { server, port, url: `http://127.0.0.1:${port}`, stop: () => server.stop(Date.now() + 2000) };
}

export interface RawReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly trailers: NodeJS.Dict<string>;
}

/** Sends a request unchanged: fetch would normalize the path and add headers. */
export function send(
  port: number,
  request: { method?: string; path: string; headers?: OutgoingHttpHeaders; body?: string | Uint8Array },
): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', path, headers, body } = request;
    const req = httpRequest(
      { host: '127.0.0.1', port, method, path, agent: false, headers: { ...headers }, timeout: 10_000 },
      (res) => {
        const chunks: Buffer[] = [];
        res.on('data', (chunk: Buffer) => chunks.push(chunk));
        res.on('error', reject);
        res.on('end', () =>
          resolve({
            status: res.statusCode!,
            headers: res.headers,
            body: Buffer.concat(chunks),
            trailers: res.trailers,
          }),
        );
      },
    );
    req.on('timeout', () => req.destroy(new Error(`no reply to ${method} ${path}`)));
    req.on('error', reject);
    req.end(body);
  });
}
