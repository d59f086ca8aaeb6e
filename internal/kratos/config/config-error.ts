/** One thing that is wrong with a configuration. */
export interface Violation {
  /** Proto path of the setting, such as `server.http.addr`; or a file; empty for the configuration as a whole. */
  readonly path: string;
  /** The environment variable that the value came from. */
  readonly variable?: string | undefined;
  readonly description: string;
}

/** A configuration that cannot be used, with everything that is wrong with it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly violations: readonly Violation[];

  /** @param source the file or directory, for the message */
  constructor(source: string, violations: readonly Violation[]) {
    const count = violations.length === 1 ? 'one violation' : `${violations.length} violations`;
    super(`${source}: ${count}\n${violations.map((v) => `  ${formatViolation(v)}`).join('\n')}`);
    this.violations = violations;
  }
}

export function formatViolation({ path, variable, description }: Violation): string {
  const where = variable && path ? `${variable} (${path})` : (variable ?? path);
  return where === '' ? description : `${where}: ${description}`;
}
