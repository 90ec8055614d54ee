/** Which ports of an instance may be reached, as its attested app-compose says. */
export type PortPolicy = {
  readonly ports: readonly { readonly port: number; readonly proxyProtocol: boolean }[];
  /** Only the listed ports. */
  readonly restrict: boolean;
};

/** One running application, as it registered. */
export type Instance = {
  /** 40 hex digits. */
  readonly instanceId: string;
  /** 40 hex digits. */
  readonly appId: string;
  /** 64 hex digits; another one at the next registration voids what was known of the ports. */
  readonly composeHash: string;
  /** Address in the tunnel, IPv4. */
  readonly ip: string;
  /** WireGuard key, base64 of 32 bytes. */
  readonly publicKey: string;
  /** Unix seconds. */
  readonly registeredAt: number;
  /** As the guest reported it, or as it was read from the guest's agent; absent while it is not known. */
  readonly portPolicy?: PortPolicy;
};

/** Whether, and how, a port of an instance may be reached: none while its policy is not known. */
export function portRule(
  { portPolicy }: Pick<Instance, 'portPolicy'>,
  port: number,
): { readonly allowed: boolean; readonly proxyProtocol: boolean } {
  if (portPolicy === undefined) return { allowed: false, proxyProtocol: false };
  const listed = portPolicy.ports.find((one) => one.port === port);
  return {
    allowed: listed !== undefined || !portPolicy.restrict,
    proxyProtocol: listed?.proxyProtocol ?? false,
  };
}
