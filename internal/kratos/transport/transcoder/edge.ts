import type { IncomingMessage } from 'node:http';
import type { Cors } from './cors.js';
import type { ErrorWriter } from './error-reply.js';
import type { MetadataRules } from './metadata.js';
import type { Router } from './router.js';
import type { Route } from './routes.js';
import type { TranscodeError } from './transcode-error.js';
import type { ErrorInfo, TranscoderHandler } from './types.js';

/** State shared by all requests. */
export interface Edge {
  readonly router: Router<Route>;
  readonly handler: TranscoderHandler;
  readonly errorOf: (err: unknown) => ErrorInfo;
  readonly errors: ErrorWriter;
  readonly onEdgeError: (error: ErrorInfo, req: IncomingMessage | undefined, cause: unknown) => void;
  readonly metadata: MetadataRules;
  readonly exposed: ReadonlySet<string>;
  readonly cors: Cors | undefined;
  readonly envelope: boolean;
  readonly envelopeHeader: string;
  /** Alternating names and values. */
  readonly replyHeaders: readonly string[];
  readonly gzipMinBytes: number;
  readonly maxBodyBytes: number;
  readonly writeTimeoutMs: number;
  readonly sseHeartbeatMs: number;
  /** Replies end their connections. */
  draining: boolean;
  stopping: boolean;
  readonly active: Set<OpenExchange>;
}

/** A request that has no complete reply yet. */
export interface OpenExchange {
  readonly req: IncomingMessage;
  readonly isStream: boolean;
  /** Aborts the work and ends an open stream with an error. */
  abort(reason: TranscodeError): void;
  /** Aborts the work and replies with the reason. */
  cut(reason: TranscodeError): void;
  /** Nothing more can be read from the connection. */
  readingFailed(error: TranscodeError): void;
}
