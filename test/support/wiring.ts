import { Container } from 'inversify';
import { type Identifier, type Provider, ProviderSet } from '../../internal/kratos/app/wiring.js';

/**
 * The same modules, with everything in `replacements` replaced.
 * @throws Error if a replacement replaces nothing, because the test would then run without it
 */
export function replaced(modules: readonly ProviderSet[], replacements: ProviderSet): readonly ProviderSet[] {
  const left = new Map<Identifier<unknown>, Provider[]>();
  for (const provider of replacements.providers) {
    left.set(provider.identifier, [...(left.get(provider.identifier) ?? []), provider]);
  }
  const names = new Set(left.keys());
  const rebound = modules.map(
    ({ providers }) =>
      new ProviderSet(
        providers.flatMap((provider) => {
          if (!names.has(provider.identifier)) return [provider];
          const instead = left.get(provider.identifier) ?? [];
          left.delete(provider.identifier);
          return instead;
        }),
      ),
  );
  if (left.size > 0) throw new Error(`no module provides ${[...left.keys()].map(String).join(', ')}`);
  return rebound;
}

/** @param parent provides what the modules do not */
export function containerOf(modules: readonly ProviderSet[], parent?: Container): Container {
  const container = new Container({ defaultScope: 'Singleton', ...(parent && { parent }) });
  container.load(...modules);
  return container;
}
