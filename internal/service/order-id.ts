import { invalidArgument } from '../../gen/common/v1/errors.js';
import { INT64_MAX } from '../biz/int64.js';

/** The order id in an order id or an order number. @throws INVALID_ARGUMENT beyond int64 */
export function orderIdOf(text: string, field = 'id'): bigint {
  const id = BigInt(text.startsWith('ORD') ? text.slice(3) : text);
  if (id <= INT64_MAX) return id;
  throw invalidArgument(`${field} ${text} is out of range`, {
    violations: [{ field, description: 'must be an int64' }],
  });
}
