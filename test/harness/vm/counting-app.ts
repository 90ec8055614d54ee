/** An application that counts its starts on a volume, and shows them. */
import { writeAppCompose } from '@dstack-cloud/app';

const service = `services:
  web:
    image: busybox:local
    command: ["sh", "-c", "echo boot >> /data/boots; sync; cp /data/boots /www/index.html; exec httpd -f -p 8080 -h /www"]
    ports: ["8080:8080"]
    restart: always
    volumes: ["data:/data"]
volumes:
  data: {}
`;

export function countingApp(keyProvider: 'kms' | 'none'): Uint8Array {
  return writeAppCompose({
    name: 'counting',
    dockerComposeFile: service,
    gatewayEnabled: false,
    publicLogs: true,
    publicSysinfo: true,
    publicTcbinfo: true,
    keyProviderId: '',
    allowedEnvs: [],
    noInstanceId: false,
    secureTime: false,
    keyProvider,
    storageFs: 'ext4',
    preLaunchScript: '',
  });
}

/** The page at a port of the host; undefined while nothing answers. */
export async function pageOf(port: number): Promise<string | undefined> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5_000) });
    return answer.ok ? await answer.text() : undefined;
  } catch {
    return undefined;
  }
}
