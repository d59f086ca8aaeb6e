import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import {
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  experimental,
  type VerifyOptions,
} from '@grpc/grpc-js';

/** How a gRPC client uses TLS. */
export interface ClientTlsOptions {
  /** PEM file of the authorities that sign the certificates of servers; "system": those of Node. Empty: no TLS. */
  readonly ca: string;
  /** PEM files of this client's own certificate and key, for servers that require one. */
  readonly cert: string;
  readonly key: string;
  /** The name in the certificates of servers. Empty: the host that is called. */
  readonly serverName: string;
}

const REFRESH_MS = 5_000;

/** Sent as the name of the server where an IP address is called: TLS has no way to name an address. */
const NAME_OF_ADDRESS = 'localhost';

/**
 * New connections use the files as they are then, except with the authorities "system", where they are read once.
 * @param addr what the client calls
 */
export function clientCredentials({ ca, cert, key, serverName }: ClientTlsOptions, addr: string): ChannelCredentials {
  if (ca === '') return credentials.createInsecure();
  const ip = serverName === '' ? ipOf(addr) : undefined;
  // grpc-js sends the host as the name, and Node 26 refuses an address there. The certificate still has to have the address.
  const verify: VerifyOptions =
    ip === undefined ? {} : { checkServerIdentity: (_, peer) => checkServerIdentity(ip, peer) };
  if (ca === 'system') {
    return cert === ''
      ? credentials.createSsl(null, null, null, verify)
      : credentials.createSsl(null, readFileSync(key), readFileSync(cert), verify);
  }
  const files = new experimental.FileWatcherCertificateProvider({
    caCertificateFile: ca,
    ...(cert !== '' && { certificateFile: cert, privateKeyFile: key }),
    refreshIntervalMs: REFRESH_MS,
  });
  return experimental.createCertificateProviderChannelCredentials(files, cert === '' ? null : files, verify);
}

export function tlsChannelOptions({ ca, serverName }: ClientTlsOptions, addr: string): ChannelOptions {
  if (ca === '') return {};
  if (serverName !== '') return { 'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName };
  return ipOf(addr) === undefined ? {} : { 'grpc.ssl_target_name_override': NAME_OF_ADDRESS };
}

const TARGET = /^(?:(?:dns|ipv4|ipv6):(?:\/\/[^/]*\/)?)?(?:\[([^\]]+)\]|([^:[\]]+))(?::\d+)?$/i;

/** The IP address that a client is told to call, as in `[::1]:9000` or `dns:///127.0.0.1:9000`; undefined: it calls a name. */
function ipOf(addr: string): string | undefined {
  const [, bracketed, plain] = TARGET.exec(addr) ?? [];
  const host = bracketed ?? plain ?? addr;
  return isIP(host) === 0 ? undefined : host;
}
