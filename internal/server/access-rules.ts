import type { FileRegistry } from '@bufbuild/protobuf';
import { Role } from '../../gen/auth/v1/auth.js';
import type { AccessRules } from '../kratos/transport/openapi/access-rules.js';
import { roleOf } from './middleware/auth.js';

type Schemes = AccessRules['schemes'];
type Requirement = ReturnType<AccessRules['securityOf']>[number];

const SCHEMES: Schemes = {
  userId: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-id',
    description:
      'Id of the user that a trusted caller acts for: a UUID or a decimal int64. If `auth.bff_token` is configured, ' +
      '`x-bff-token` is required as well.',
    'x-example': '123',
  },
  userRole: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-role',
    description:
      '`ADMIN` for a shop operator. Believed outside production only, and not if `auth.admin_token` is configured.',
    'x-example': 'ADMIN',
  },
  bffToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-bff-token',
    description: 'Shared secret of the trusted caller (`auth.bff_token`).',
  },
  adminToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-admin-token',
    description: 'Secret of operators (`auth.admin_token`). `x-user-id` may name the user that the operator acts for.',
  },
  bearer: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'JWT whose claim `sub` is the user id; `"role": "ADMIN"` identifies a shop operator.',
  },
  internalToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-internal-token',
    description: 'Shared secret of internal services (`auth.internal_token`).',
  },
};

/**
 * What the API documents say about roles and credentials.
 * @param auth how callers authenticate; undefined documents both ways
 */
export function accessRules(registry: FileRegistry, auth?: 'header' | 'jwt'): AccessRules {
  return {
    roleOf: (method) => Role[roleOf(method, registry)] ?? 'ROLE_UNSPECIFIED',
    securityOf: (role) => securityOf(role, auth),
    schemes: SCHEMES,
  };
}

function securityOf(role: string, auth: 'header' | 'jwt' | undefined): Requirement[] {
  const bearer = auth === 'header' ? [] : [{ bearer: [] }];
  const header = (name: string) => (auth === 'jwt' ? [] : [{ [name]: [] }, { [name]: [], bffToken: [] }]);
  switch (role) {
    case 'PUBLIC':
      return [];
    case 'USER':
      return [...header('userId'), ...bearer, { internalToken: [], userId: [] }];
    case 'ADMIN':
      return [...header('userRole'), { adminToken: [] }, ...bearer];
    default:
      return [{ internalToken: [] }];
  }
}
