export { createProxyServer } from './proxy/proxy-server.ts';
