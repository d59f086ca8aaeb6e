declare const type: unique symbol;

/** Names a dependency whose type has no class: a configuration, a policy. It is a symbol that knows its type. */
export type Token<T> = symbol & { readonly [type]: T };

/** @param name appears in wiring errors */
export function token<T>(name: string): Token<T> {
  return Symbol(name) as Token<T>;
}
