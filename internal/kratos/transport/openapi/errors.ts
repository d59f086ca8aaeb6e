import type { FileRegistry } from '@bufbuild/protobuf';
import type { ReasonSpec } from '../../errors/error.js';
import { INTERNAL } from '../../errors/reasons.js';
import { edgeErrors } from '../transcoder/error-reply.js';
import type { ErrorShape } from '../transcoder/types.js';
import { commentOf } from './comments.js';
import type { Schema } from './schema.js';

/** The package of the reasons that every service may give. */
const COMMON = INTERNAL.domain;

/** A bound method is implemented, and who went away reads no reply. */
const UNSEEN_STATUSES = new Set([499, 501]);

/** Refusals of the edge that an operation lists: any, those that only a body can meet, and those left to `default`. */
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
  description: 'What every failed request is answered with.',
  properties: {
    code: { type: 'integer', description: 'The HTTP status.' },
    reason: { type: 'string', pattern: '^[A-Z][A-Z0-9_]*$', description: 'What to branch on.' },
    message: { type: 'string', description: 'For people.' },
    metadata: { type: 'object', additionalProperties: { type: 'string' }, description: 'Facts to act on.' },
    violations: {
      type: 'array',
      description: 'The fields at fault, where fields are.',
      items: {
        type: 'object',
        properties: {
          field: { type: 'string', description: 'Path of the field; empty for the request as a whole.' },
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
  description: 'What every failed request is answered with, as grpc-gateway writes it.',
  properties: {
    code: { type: 'integer', minimum: 1, maximum: 16, description: 'The gRPC status.' },
    message: { type: 'string', description: 'For people.' },
    details: {
      type: 'array',
      description: 'google.rpc.ErrorInfo with the reason; google.rpc.BadRequest with the fields at fault.',
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

/** The error replies: one component for each package and status, so that an operation only names them. */
export class ErrorReplies {
  readonly #components = new Map<string, Schema>();

  constructor(
    readonly registry: FileRegistry,
    readonly reasons: readonly ReasonSpec[],
    readonly shape: ErrorShape,
  ) {}

  get schema(): Schema {
    return this.shape === 'reason' ? ERROR : GATEWAY_ERROR;
  }

  get components(): Record<string, Schema> {
    const rare = RARE_ERRORS.map((name) => edgeReason(name));
    const list = rare.map((r) => `- ${r.status} ${textOf(r)}`).join('\n');
    const content = { 'application/json': { schema: ERROR_REF } };
    const rest = { description: `Any other failure, such as one of another package, or\n\n${list}`, content };
    const entries = [...this.#components, ['default', rest] as const];
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** Of an operation whose proto package is `domain`. */
  repliesOf(domain: string, hasBody: boolean, isPublic: boolean): Record<string, Schema> {
    const common = this.#reasonsOf(COMMON).filter((r) => !(isPublic && r.status === 403));
    const own = domain === COMMON ? [] : this.#reasonsOf(domain);
    const edge = [...ANY_ERRORS, ...(hasBody ? BODY_ERRORS : [])].map((name) => edgeReason(name));
    const all = [...common, ...own, ...edge].filter((r) => !UNSEEN_STATUSES.has(r.status));
    const replies: Record<string, Schema> = {};
    for (const status of [...new Set(all.map((r) => r.status))].sort((a, b) => a - b)) {
      const reasons = new Map(all.filter((r) => r.status === status).map((r) => [r.reason, r]));
      const scope = own.some((r) => r.status === status) ? domain : COMMON;
      const name = `${scope}.${status}`;
      if (!this.#components.has(name)) this.#components.set(name, this.#reply(status, [...reasons.values()]));
      replies[status] = { $ref: `#/components/responses/${name}` };
    }
    return { ...replies, default: { $ref: '#/components/responses/default' } };
  }

  #reasonsOf(domain: string): Reason[] {
    const values = this.registry.getEnum(`${domain}.ErrorReason`)?.values ?? [];
    return this.reasons
      .filter((spec) => spec.domain === domain)
      .map((spec) => {
        const value = values.find((v) => v.name === spec.reason);
        return { status: spec.httpCode, reason: spec.reason, comment: value ? commentOf(value) : '' };
      });
  }

  #reply(status: number, reasons: readonly Reason[]): Schema {
    const list = reasons.map((r) => `- ${textOf(r)}`).join('\n');
    const narrowed = { code: { const: status }, reason: { enum: reasons.map((r) => r.reason) } };
    const schema = this.shape === 'reason' ? { allOf: [ERROR_REF], properties: narrowed } : ERROR_REF;
    return { description: list, content: { 'application/json': { schema } } };
  }
}

function textOf({ reason, comment }: Reason): string {
  return `\`${reason}\`${comment === '' ? '' : `: ${comment}`}`;
}

type EdgeError = (typeof ANY_ERRORS)[number] | (typeof BODY_ERRORS)[number] | (typeof RARE_ERRORS)[number];

const EDGE_COMMENTS: Readonly<Record<EdgeError, string>> = {
  badRequest: 'The request cannot be read.',
  notAcceptable: 'No content type of `Accept` can be given.',
  headersTooLarge: 'The request line and headers are too large.',
  internal: '',
  stopping: 'The server is stopping; ask again.',
  deadlineExceeded: '',
  requestTimeout: 'The request did not arrive in time.',
  bodyTooLarge: 'The body is too large.',
  unsupportedMediaType: 'The body is of a type or an encoding that is not taken.',
  expectationFailed: 'The `Expect` header is not understood.',
};

function edgeReason(name: EdgeError): Reason {
  const { httpStatus, reason } = edgeErrors[name]('');
  return { status: httpStatus, reason, comment: EDGE_COMMENTS[name] };
}
