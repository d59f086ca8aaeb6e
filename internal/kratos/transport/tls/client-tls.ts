import { readFileSync } from 'node:fs';
import { type ChannelCredentials, type ChannelOptions, credentials, experimental } from '@grpc/grpc-js';

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

/** New connections use the files as they are then, except with the authorities "system", where they are read once. */
export function clientCredentials({ ca, cert, key }: ClientTlsOptions): ChannelCredentials {
  if (ca === '') return credentials.createInsecure();
  if (ca === 'system') {
    return cert === '' ? credentials.createSsl() : credentials.createSsl(null, readFileSync(key), readFileSync(cert));
  }
  const files = new experimental.FileWatcherCertificateProvider({
    caCertificateFile: ca,
    ...(cert !== '' && { certificateFile: cert, privateKeyFile: key }),
    refreshIntervalMs: REFRESH_MS,
  });
  return experimental.createCertificateProviderChannelCredentials(files, cert === '' ? null : files);
}

export function tlsChannelOptions({ ca, serverName }: ClientTlsOptions): ChannelOptions {
  if (ca === '' || serverName === '') return {};
  return { 'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName };
}
