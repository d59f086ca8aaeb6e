import type { DescMethod, FileRegistry } from '@bufbuild/protobuf';
import type { ReasonSpec } from '../../errors/error.js';
import { INTERNAL, MESSAGE_TOO_LARGE } from '../../errors/reasons.js';
import { edgeErrors } from '../transcoder/error-reply.js';
import type { ErrorShape } from '../transcoder/types.js';
import { commentOf } from './comments.js';
import { declaredReasons } from './declared-reasons.js';
import type { Schema } from './schema.js';

/** The package of the reasons that every service may return. */
const COMMON = INTERNAL.domain;

/** Common statuses that no client sees: it reads no reply after it has gone, and every route is implemented. */
const UNSEEN_STATUSES = new Set([499, 501]);

/**
 * Errors of the transcoder: those of every operation, those of operations with a body, and those listed under
 * `default`.
 */
const ANY_ERRORS = ['badRequest', 'internal', 'stopping', 'deadlineExceeded'] as const;
const BODY_ERRORS = ['bodyTooLarge', 'unsupportedMediaType'] as const;
const RARE_ERRORS = ['notAcceptable', 'requestTimeout', 'expectationFailed', 'headersTooLarge'] as const;

interface Reason {
  readonly status: number;
  readonly reason: string;
  readonly comment: string;
}

const ERROR: Schema = {
  type: 'object',
  description: 'Body of every error reply.',
  properties: {
    code: { type: 'integer', description: 'The HTTP status.' },
    reason: {
      type: 'string',
      pattern: '^[A-Z][A-Z0-9_]*$',
      description: 'Stable identifier of the error; use it to distinguish errors.',
    },
    message: { type: 'string', description: 'Human-readable text.' },
    metadata: {
      type: 'object',
      additionalProperties: { type: 'string' },
      description:
        'Machine-readable details. If the request is invalid, `violations` is the list of that name as JSON text, for clients that read only the metadata.',
    },
    violations: {
      type: 'array',
      description: 'Invalid fields; only present if the request is invalid.',
      items: {
        type: 'object',
        properties: {
          field: { type: 'string', description: 'Path of the field; empty if the request as a whole is invalid.' },
          description: { type: 'string' },
        },
        required: ['field', 'description'],
      },
    },
  },
  required: ['code', 'reason', 'message', 'metadata'],
};

const GATEWAY_ERROR: Schema = {
  type: 'object',
  description: 'Body of every error reply, in the format of grpc-gateway.',
  properties: {
    code: { type: 'integer', minimum: 1, maximum: 16, description: 'The gRPC status.' },
    message: { type: 'string', description: 'Human-readable text.' },
    details: {
      type: 'array',
      description: 'google.rpc.ErrorInfo with the reason; google.rpc.BadRequest with the invalid fields.',
      items: {
        type: 'object',
        properties: { '@type': { type: 'string' } },
        required: ['@type'],
        additionalProperties: true,
      },
    },
  },
  required: ['code', 'message', 'details'],
};

export const ERROR_REF: Schema = { $ref: '#/components/schemas/Error' };

/** The error replies of operations. Those that many operations share are components. */
export class ErrorReplies {
  private readonly shared = new Map<string, Schema>();

  constructor(
    private readonly registry: FileRegistry,
    private readonly reasons: readonly ReasonSpec[],
    private readonly shape: ErrorShape,
  ) {}

  get schema(): Schema {
    return this.shape === 'reason' ? ERROR : GATEWAY_ERROR;
  }

  get components(): Record<string, Schema> {
    const rare = RARE_ERRORS.map((name) => edgeReason(name));
    const list = rare.map((r) => `- ${r.status} ${textOf(r)}`).join('\n');
    const content = { 'application/json': { schema: ERROR_REF } };
    const rest = { description: `Any other error:\n\n${list}`, content };
    const entries = [...this.shared, ['default', rest] as const];
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /**
   * By status: the reasons that the method declares, those that every service may return, and those of the transcoder.
   * @throws Error if the method declares a reason that does not exist
   */
  repliesOf(method: DescMethod, hasBody: boolean, isPublic: boolean): Record<string, Schema> {
    const common = this.reasons
      .filter((spec) => spec.domain === COMMON && !UNSEEN_STATUSES.has(spec.httpCode))
      .filter((spec) => spec.reason !== MESSAGE_TOO_LARGE.reason)
      .filter((spec) => !(isPublic && spec.httpCode === 403))
      .map((spec) => this.reasonOf(spec));
    const own = declaredReasons(method, this.reasons, this.registry).map((spec) => this.reasonOf(spec));
    const edge = [...ANY_ERRORS, ...(hasBody ? BODY_ERRORS : [])].map((name) => edgeReason(name));
    const all = [...own, ...common, ...edge];
    const replies: Record<string, Schema> = {};
    for (const status of [...new Set(all.map((r) => r.status))].sort((a, b) => a - b)) {
      const reasons = new Map(all.filter((r) => r.status === status).map((r) => [r.reason, r]));
      const reply = this.reply(status, [...reasons.values()]);
      const isShared = !own.some((r) => r.status === status);
      if (isShared) this.shared.set(`${COMMON}.${status}`, reply);
      replies[status] = isShared ? { $ref: `#/components/responses/${COMMON}.${status}` } : reply;
    }
    return { ...replies, default: { $ref: '#/components/responses/default' } };
  }

  private reasonOf(spec: ReasonSpec): Reason {
    return { status: spec.httpCode, reason: spec.reason, comment: reasonComment(spec, this.registry) };
  }

  private reply(status: number, reasons: readonly Reason[]): Schema {
    const list = reasons.map((r) => `- ${textOf(r)}`).join('\n');
    const narrowed = { code: { const: status }, reason: { enum: reasons.map((r) => r.reason) } };
    const schema = this.shape === 'reason' ? { allOf: [ERROR_REF], properties: narrowed } : ERROR_REF;
    return { description: list, content: { 'application/json': { schema } } };
  }
}

/** The comment of a reason in its proto. */
export function reasonComment({ domain, reason }: ReasonSpec, registry: FileRegistry): string {
  const value = registry.getEnum(`${domain}.ErrorReason`)?.values.find((v) => v.name === reason);
  return value ? commentOf(value) : '';
}

/** The errors of the JSON listener itself, which no proto declares. */
export function edgeReasons(): Reason[] {
  const names = Object.keys(EDGE_COMMENTS) as (keyof typeof EDGE_COMMENTS)[];
  return names.map(edgeReason).filter((r) => r.comment !== '');
}

function textOf({ reason, comment }: Reason): string {
  return `\`${reason}\`${comment === '' ? '' : `: ${comment}`}`;
}

type EdgeError =
  | (typeof ANY_ERRORS)[number]
  | (typeof BODY_ERRORS)[number]
  | (typeof RARE_ERRORS)[number]
  | 'routeNotFound'
  | 'methodNotAllowed';

const EDGE_COMMENTS: Readonly<Record<EdgeError, string>> = {
  badRequest: 'The request cannot be read.',
  routeNotFound: 'No route has this path.',
  methodNotAllowed: 'The path does not have this HTTP method.',
  notAcceptable: 'None of the content types in `Accept` is available.',
  headersTooLarge: 'The request line and headers are too large.',
  internal: '',
  stopping: 'The server is stopping. Retry.',
  deadlineExceeded: '',
  requestTimeout: 'The request did not arrive in time.',
  bodyTooLarge: 'The body is too large.',
  unsupportedMediaType: 'The content type or encoding of the body is not supported.',
  expectationFailed: 'The `Expect` header is not supported.',
};

function edgeReason(name: EdgeError): Reason {
  const { httpStatus, reason } = edgeErrors[name]('');
  return { status: httpStatus, reason, comment: EDGE_COMMENTS[name] };
}
