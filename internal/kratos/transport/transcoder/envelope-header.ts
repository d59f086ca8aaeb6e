/** Request header that asks for the envelope, if the options name no other. */
export const DEFAULT_ENVELOPE_HEADER = 'x-envelope';
