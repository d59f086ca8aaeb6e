import { invalidArgument } from '../../gen/common/v1/errors.js';
import type { Viewer } from '../biz/catalog/catalog.js';
import type { Identity } from '../biz/identity.js';
import type { CallContext } from '../kratos/transport/call-context.js';

/** The identity of the caller. The auth middleware has set it and has checked that it may call the RPC. */
export function identityOf(ctx: CallContext): Identity {
  return ctx.identity as Identity;
}

/**
 * The user that a call acts for. Callers of an RPC with role USER have one, except operators and services, which may omit
 * it.
 *
 * @throws INVALID_ARGUMENT naming x-user-id
 */
export function userOf(ctx: CallContext): string {
  if (ctx.identity.userId !== undefined) return ctx.identity.userId;
  throw invalidArgument('x-user-id is required', {
    violations: [{ field: 'x-user-id', description: 'must name the user that this call acts for' }],
  });
}

/** Whether the caller sees what is not public: operators and services of the system do. */
export function isOperator(ctx: CallContext): boolean {
  const { role } = identityOf(ctx);
  return role === 'ADMIN' || role === 'INTERNAL';
}

/** Whether the caller sees what is not published. */
export function viewerOf(ctx: CallContext): Viewer {
  return isOperator(ctx) ? 'operator' : 'public';
}

/**
 * The address that a call comes from.
 * @throws Error for a service that internal/server does not list for the caller address middleware
 */
export function addressOf(ctx: CallContext): string {
  if (ctx.address === undefined) throw new Error(`no caller address is determined for ${ctx.operation}`);
  return ctx.address;
}
