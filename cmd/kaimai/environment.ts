/** @returns a variable of the environment, which includes .run/env while `kaimai up` runs (see adoptRunEnv) */
export function required(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(`${name} is not set. Set it, or start Kaimai with \`kaimai up\``);
}

/** @param given the value of --url, if there was one */
export function databaseUrl(given: string | undefined): string {
  return given ?? required('KAIMAI_POSTGRES_URL');
}
