package provd

import (
	"errors"
	"net/http"

	"ledgerline/commands"
	"ledgerline/domain"
)

// keyParameter is the one parameter every tenant has of its own.
const keyParameter = "provisioning_key"

// parameters are listed in this order. What a value may be, domain.CheckParameter says.
var parameters = []struct{ id, description string }{
	{domain.ParamPluginServer, "The URL of the plugin repository"},
	{domain.ParamHTTPProxy, "The proxy for HTTP requests. Format is \"http://[user:password@]host:port\""},
	{domain.ParamFTPProxy, "The proxy for FTP requests. Format is \"http://[user:password@]host:port\""},
	{domain.ParamHTTPSProxy, "The proxy for HTTPS requests. Format is \"host:port\""},
	{domain.ParamLocale, "The current locale. Example: fr_FR"},
	{domain.ParamNAT, "Set to 1 if all the devices are behind a NAT"},
	{keyParameter, "The provisioning key of the tenant: the first part of the path its phones fetch under"},
}

// defaultPluginServer is where wazo-provd's plugins are, when nobody has said otherwise.
const defaultPluginServer = "http://provd.wazo.community/plugins/2/stable/"

func knownParameter(c *call) bool {
	for _, p := range parameters {
		if p.id == c.params["param"] {
			return true
		}
	}
	return false
}

// parameter is a value as it is shown; nil for one that is not set.
func (c *call) parameter(id string) (any, error) {
	if id == keyParameter {
		key, err := c.Service.ProvisioningKey(c.ctx, c.grant.Tenant)
		if key == "" || err != nil {
			return nil, err
		}
		if !c.grant.Secrets {
			key = domain.Redacted
		}
		return key, nil
	}
	value, err := c.Service.Parameter(c.ctx, id)
	switch {
	case err != nil:
		return nil, err
	case id == domain.ParamNAT:
		if value == "1" {
			return 1, nil
		}
		return 0, nil
	case value == "" && id == domain.ParamPluginServer:
		return defaultPluginServer, nil
	case value == "":
		return nil, nil
	case domain.SecretParameter(id) && !c.grant.Secrets:
		return domain.Redacted, nil
	}
	return value, nil
}

func (c *call) listParameters() error {
	out := make([]object, len(parameters))
	for i, p := range parameters {
		value, err := c.parameter(p.id)
		if err != nil {
			return err
		}
		out[i] = object{"id": p.id, "description": p.description, "value": value, "links": []link{{"srv.configure.param", "/0.2/configure/" + p.id}}}
	}
	c.answer(http.StatusOK, object{"params": out})
	return nil
}

func (c *call) getParameter() error {
	value, err := c.parameter(c.params["param"])
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, object{"param": object{"value": value}})
	return nil
}

func (c *call) putParameter() error {
	doc, err := c.object("param")
	if err != nil {
		return err
	}
	given, has := doc["value"]
	value, isText := given.(string)
	if !has || given != nil && !isText {
		return refuse(http.StatusBadRequest, "value must be text or null")
	}
	id := c.params["param"]
	switch {
	case id == keyParameter && isText && value == "":
		err = domain.ErrBadKey
	case id == keyParameter:
		_, err = c.Service.SetProvisioningKey(c.ctx, commands.SetProvisioningKey{ID: c.grant.Tenant, Key: value})
	case isText && value == "" && id != domain.ParamLocale:
		err = domain.ErrParameterValue
	default:
		_, err = c.Service.SetParameter(c.ctx, commands.SetParameter{Name: id, Value: value})
	}
	if errors.Is(err, domain.ErrParameterValue) {
		return refuse(http.StatusBadRequest, id+": the value "+domain.ErrParameterValue.Error())
	}
	if err != nil {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}
