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
      'The user that a trusted caller acts for: a UUID or an int64. Believed with `x-bff-token` where one is configured.',
  },
  userRole: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-role',
    description: '`ADMIN` for an operator, from a trusted caller.',
  },
  bffToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-bff-token',
    description: 'The shared secret of the trusted caller.',
  },
  bearer: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'The claim `sub` is the user; `"role": "ADMIN"` makes an operator.',
  },
  internalToken: {
    type: 'apiKey',
    in: 'header',
    name: 'x-internal-token',
    description: 'The shared secret of the services of the system.',
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
      return [...header('userRole'), ...bearer];
    default:
      return [{ internalToken: [] }];
  }
}
