package projections

// All are the read models of the server, in the order they are applied.
func All() []Projection {
	return []Projection{tenants, categories, codes, epochs, registryServers, tokens, devices, configs, users, lines, layers, gateways, sipUsers, apiKeys, checkpoints, plugins, clouds, softphones, jobs, rollouts, rolloutRows, notices, history}
}
