import { ContractsError } from '../errors.ts';
import { shown } from './hex-values.ts';

/** A chain by name: where it is reached, and which it must turn out to be. */
export type Network = { readonly rpcUrl: string; readonly chainId?: number };

type Environment = Readonly<Record<string, string | undefined>>;

const networks: Readonly<Record<string, (env: Environment) => Network>> = {
  test: (env) => ({ rpcUrl: env['RPC_URL'] || 'http://127.0.0.1:8545/' }),
  custom: (env) => ({ rpcUrl: required(env, 'RPC_URL', 'custom') }),
  phala: () => ({ rpcUrl: 'https://rpc.phala.network', chainId: 2035 }),
  sepolia: (env) => ({
    rpcUrl: `https://eth-sepolia.g.alchemy.com/v2/${required(env, 'ALCHEMY_API_KEY', 'sepolia')}`,
    chainId: 11_155_111,
  }),
  base: () => ({ rpcUrl: 'https://mainnet.base.org', chainId: 8453 }),
  'base-sepolia': () => ({ rpcUrl: 'https://sepolia.base.org', chainId: 84_532 }),
};

const networkNames: readonly string[] = Object.keys(networks);

/** @throws ContractsError `bad-argument` for an unknown network, or one whose variable is not set */
export function networkOf(name: string, env: Environment): Network {
  const network = Object.hasOwn(networks, name) ? networks[name] : undefined;
  if (network) return network(env);
  const hint =
    name === 'hardhat'
      ? 'It would end with the command: start anvil and use --network test.'
      : `Known are ${networkNames.join(', ')}.`;
  throw new ContractsError('bad-argument', `There is no network ${shown(name)}. ${hint}`);
}

function required(env: Environment, variable: string, network: string): string {
  const value = env[variable];
  if (value) return value;
  throw new ContractsError('bad-argument', `Network ${network} needs the environment variable ${variable}`);
}
