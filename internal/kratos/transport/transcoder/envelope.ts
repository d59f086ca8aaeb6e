import type { DescMessage } from '@bufbuild/protobuf';

/** Request header that asks for the envelope, if the options name no other. */
export const DEFAULT_ENVELOPE_HEADER = 'x-envelope';

/**
 * Reply messages that have the envelope's `code`, `message` and `data` themselves, by full name: the value of their enum
 * `code` that stands for success. They are not wrapped a second time.
 */
export type OwnEnvelopes = Readonly<Record<string, number>>;

/** Puts the JSON of a reply into its envelope. */
export type Enveloper = (json: string) => string;

export function wrap(json: string): string {
  return `{"code":0,"message":"ok","data":${json}}`;
}

/**
 * For a message with an envelope of its own: the code as a number, 0 for success.
 * @throws Error if the message has no enum field `code`
 */
export function ownEnvelope(message: DescMessage, success: number): Enveloper {
  const field = message.fields.find((f) => f.name === 'code');
  if (field?.fieldKind !== 'enum') throw new Error(`${message.typeName} has no enum field code`);
  const codes = new Map(field.enum.values.map(({ name, number }) => [name, number === success ? 0 : number]));
  return (json) => {
    const { code, ...rest } = JSON.parse(json) as { code: string };
    // A number that the enum does not know is one already.
    return JSON.stringify({ code: codes.get(code) ?? code, ...rest });
  };
}
