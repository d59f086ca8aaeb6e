import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { Scope, Window } from './price-calculator.js';

/** @throws INVALID_ARGUMENT ends_at */
export function checkWindow({ startsAt, endsAt }: Window): void {
  if (endsAt === undefined || startsAt < endsAt) return;
  throw invalidArgument('it would end before it starts', {
    violations: [{ field: 'ends_at', description: 'must be after starts_at' }],
  });
}

/** @throws INVALID_ARGUMENT */
export function checkScope(scope: Scope, field: string, kinds: readonly Scope['kind'][]): void {
  if (!kinds.includes(scope.kind)) {
    throw invalidArgument(`the scope cannot be ${scope.kind}`, {
      violations: [{ field: `${field}.kind`, description: `must be one of ${kinds.join(', ')}` }],
    });
  }
  if (scope.kind !== 'ALL' && scope.ids.length === 0) {
    throw invalidArgument(`a scope of kind ${scope.kind} needs ids`, {
      violations: [{ field: `${field}.ids`, description: 'must not be empty' }],
    });
  }
}
