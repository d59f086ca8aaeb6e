import { type DescMethod, getOption, type Registry } from '@bufbuild/protobuf';
import type { ReasonSpec } from '../../errors/error.js';

const OPTION = 'errors.reasons';

/**
 * The reasons that a method declares by the option `(errors.reasons)`: names of its own package (`ORDER_NOT_FOUND`) or
 * qualified ones (`product.v1.PRODUCT_NOT_FOUND`). The reasons that every service may return are not among them.
 * @param known all reasons that exist
 * @throws Error for a name that does not exist
 */
export function declaredReasons(
  method: DescMethod,
  known: readonly ReasonSpec[],
  registry: Registry,
): readonly ReasonSpec[] {
  const extension = registry.getExtension(OPTION);
  if (extension === undefined) return [];
  return (getOption(method, extension) as readonly string[]).map((name) => {
    const dot = name.lastIndexOf('.');
    const domain = dot < 0 ? method.parent.file.proto.package : name.slice(0, dot);
    const reason = name.slice(dot + 1);
    const spec = known.find((candidate) => candidate.domain === domain && candidate.reason === reason);
    if (spec === undefined) throw new Error(`${method}: (${OPTION}) names ${name}, which is not an error reason`);
    return spec;
  });
}
