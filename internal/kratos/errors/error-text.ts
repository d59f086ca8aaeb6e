/** The message of an error; of anything else that was thrown, its text. */
export function errorText(err: unknown): string {
  if (!(err instanceof Error)) return String(err);
  return err.message === '' ? err.name : err.message;
}
