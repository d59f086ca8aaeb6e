/** Makes any text fit a VARCHAR(max) column. PostgreSQL stores no NUL and counts code points. */
export function storableText(text: string, max: number): string {
  const clean = text.replaceAll('\0', '\uFFFD');
  return clean.length <= max ? clean : [...clean].slice(0, max).join('');
}
