/** Skips the suite with a line that says why. */
export function missingProgram(context: Mocha.Context, program: string): never {
  console.warn(`      skipped: ${program} is not installed on this machine`);
  return context.skip();
}
