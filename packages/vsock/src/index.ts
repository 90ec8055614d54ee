export { VsockError, type VsockErrorCode } from './errors.ts';
export { connectTunnel } from './http-connect.ts';
export { connectUnix, dialHybrid, hybridGuest, hybridHost, hybridPortPath } from './hybrid.ts';
export { openVsock, parseVsockAddress } from './open-vsock.ts';
export { type HttpProxy, proxyFor } from './proxy-variables.ts';
export { connectTcp } from './tcp.ts';
export { PARENT_CID, type Vsock, type VsockServer } from './vsock.ts';
