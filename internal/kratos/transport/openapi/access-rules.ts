import type { DescMethod } from '@bufbuild/protobuf';
import type { Schema } from './schema.js';

/** How an application protects its RPCs. */
export interface AccessRules {
  /** The role that an RPC requires, shown as `x-role`. */
  readonly roleOf: (method: DescMethod) => string;
  /** The security requirements of a role, each of which is enough; empty: no credentials are needed. */
  readonly securityOf: (role: string) => readonly Schema[];
  /** The Security Scheme Objects that the requirements name. */
  readonly schemes: Readonly<Record<string, Schema>>;
}

/** No RPC needs credentials. */
export const OPEN_ACCESS: AccessRules = { roleOf: () => 'PUBLIC', securityOf: () => [], schemes: {} };
