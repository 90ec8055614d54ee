/** Permission bits of the sockets that containers use: a container's user may be anybody. */
export const CONTAINERS_MODE = 0o777;
