package domain

var tenantEvents, categoryEvents, codeEvents, deviceEvents, userEvents, lineEvents, layerEvents, apiKeyEvents, keyEvents, claimEvents []entry
